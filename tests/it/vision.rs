//! Tests the engine, the detectors, the crop and the classifier on pictures with known content.

use std::path::Path;

use opencv::core::{Mat, MatTraitConst, Rect, Scalar, Size, hconcat2};
use opencv::imgproc::{COLOR_BGR2RGB, INTER_AREA, cvt_color_def, gaussian_blur_def, resize};
use visage::analysis::{Emotion, Face, Landmarks, Probabilities};
use visage::config::{Colour, DetectorKind, Device, Settings};
use visage::engine::{ActiveDevice, Engine, EngineError, manifest};
use visage::media::{Every, Frames, Opened, Source};
use visage::telemetry::{Queues, metrics};
use visage::vision::{
    DetailReader, FaceDetails, Vision, VisionError, WindowDetector, decode, head_and_eyes, head_pose,
};

use crate::support::clips::{model, shared};

/// Returns the folder with every model of the manifest.
fn models() -> &'static Path {
    for entry in manifest::models().unwrap() {
        model(&entry.file);
    }
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/models"))
}

fn settings(detector: DetectorKind) -> Settings {
    let mut settings = Settings::defaults().unwrap();
    settings.models.folder = models().to_owned();
    settings.engine.device = Device::Cpu;
    settings.vision.detector = detector;
    settings
}

fn load(detector: DetectorKind) -> Vision {
    Vision::load(&settings(detector)).unwrap()
}

fn detail_reader(vision: &Vision) -> DetailReader {
    vision.detail_reader(FaceDetails { landmarks: true, expressions: true })
}

fn people() -> Mat {
    decode(&std::fs::read(shared("multi_face.jpg")).unwrap()).unwrap()
}

/// Returns every n-th frame of a clip, with its time in seconds.
fn frames(clip: &str, every: u32) -> Vec<(f64, Mat)> {
    let limits = Settings::defaults().unwrap().video;
    let video = Opened::open(&Source::File(shared(clip)), &limits).unwrap();
    let mut frames = Frames::start(video, Every::exact(every), 2).unwrap();
    let next = || frames.next(&|| false).unwrap().map(|sample| (sample.time_s, sample.picture));
    std::iter::from_fn(next).collect()
}

/// Returns the largest face of each frame and its emotions.
fn read(vision: &Vision, frames: &[(f64, Mat)]) -> Vec<(f64, Face, Probabilities)> {
    let pictures: Vec<&Mat> = frames.iter().map(|(_, frame)| frame).collect();
    let found = vision.detect(&pictures, 1).unwrap();
    let faces = frames.iter().zip(found).filter_map(|((time_s, frame), faces)| Some((*time_s, frame, *faces.first()?)));
    let faces: Vec<_> = faces.collect();
    let crops: Vec<_> = faces.iter().map(|(_, frame, face)| vision.crop(frame, face).unwrap()).collect();
    let read = vision.classify(&crops).unwrap();
    faces.into_iter().zip(read).map(|((time_s, _, face), emotions)| (time_s, face, emotions)).collect()
}

fn scaled(picture: &Mat, width: i32) -> Mat {
    let mut small = Mat::default();
    let height = (f64::from(picture.rows()) * f64::from(width) / f64::from(picture.cols())).round() as i32;
    resize(picture, &mut small, Size::new(width, height), 0.0, 0.0, INTER_AREA).unwrap();
    small
}

fn mean_score(faces: &[Face]) -> f32 {
    faces.iter().map(|face| face.score).sum::<f32>() / faces.len() as f32
}

#[test]
fn each_detector_finds_the_five_people_of_a_photograph_largest_first() {
    let picture = people();
    let [yunet, blazeface] = [DetectorKind::Yunet, DetectorKind::Blazeface].map(|kind| {
        let vision = load(kind);
        let faces = vision.detect(&[&picture], 10).unwrap().remove(0);
        assert_eq!(faces.len(), 5, "{kind:?}: {faces:#?}");
        assert!(faces.is_sorted_by(|a, b| a.bbox.area() >= b.bbox.area()));
        assert_eq!(vision.detect(&[&picture], 2).unwrap()[0], faces[..2]);
        faces
    });
    for face in &yunet {
        let same =
            blazeface.iter().find(|other| other.bbox.iou(&face.bbox) > 0.4).expect("BlazeFace does not find the face");
        let (eyes, others) = (face.landmarks.unwrap().eyes(), same.landmarks.unwrap().eyes());
        let near = |a: f32, b: f32| (a - b).abs() < face.bbox.height * 0.12;
        assert!(near(eyes.0.x, others.0.x) && near(eyes.0.y, others.0.y), "{face:?} {same:?}");
        assert!(near(eyes.1.x, others.1.x) && near(eyes.1.y, others.1.y), "{face:?} {same:?}");
    }
}

#[test]
fn faces_of_24_pixels_are_found_and_smaller_ones_left_out_by_setting() {
    // The photograph is shrunk until its faces are 24 to 31 pixels high (32 to 42 for BlazeFace), and put into the
    // corner of a frame.
    for (kind, width, most) in [(DetectorKind::Yunet, 245, 34.0), (DetectorKind::Blazeface, 330, 45.0)] {
        let small = scaled(&people(), width);
        let mut frame = Mat::new_rows_cols_with_default(427, 640, small.typ(), Scalar::all(90.0)).unwrap();
        small.copy_to(&mut Mat::roi_mut(&mut frame, Rect::new(40, 30, small.cols(), small.rows())).unwrap()).unwrap();
        let mut settings = settings(kind);
        settings.vision.min_face = 12;
        let all = Vision::load(&settings).unwrap().detect(&[&frame], 10).unwrap().remove(0);
        assert_eq!(all.len(), 5, "{kind:?}: {all:?}");
        assert!(all.iter().all(|face| face.bbox.height < most && face.bbox.x > 35.0), "{kind:?}: {all:?}");
        settings.vision.min_face = 50;
        assert_eq!(Vision::load(&settings).unwrap().detect(&[&frame], 10).unwrap(), [[]], "{kind:?}");
    }
}

#[test]
fn boxes_are_in_pixels_of_the_frame_at_any_frame_size() {
    let vision = load(DetectorKind::Yunet);
    let picture = people();
    let large = vision.detect(&[&picture], 10).unwrap().remove(0);
    let small = vision.detect(&[&scaled(&picture, 500)], 10).unwrap().remove(0);
    assert_eq!(small.len(), 5);
    for face in &small {
        let mut twice = face.bbox;
        for value in [&mut twice.x, &mut twice.y, &mut twice.width, &mut twice.height] {
            *value *= 2.0;
        }
        assert!(large.iter().any(|other| other.bbox.iou(&twice) > 0.8), "{twice:?} in {large:#?}");
    }
}

#[test]
fn swapped_colour_channels_lower_the_scores_of_every_detector() {
    let picture = people();
    let mut swapped = Mat::default();
    cvt_color_def(&picture, &mut swapped, COLOR_BGR2RGB).unwrap();
    for kind in [DetectorKind::Yunet, DetectorKind::Blazeface] {
        let vision = load(kind);
        let right = mean_score(&vision.detect(&[&picture], 10).unwrap()[0]);
        let wrong = mean_score(&vision.detect(&[&swapped], 10).unwrap()[0]);
        println!("{kind:?}: mean score {right:.3}, with red and blue swapped {wrong:.3}");
        assert!(right > wrong + 0.002, "{kind:?}: {right} against {wrong}");
    }
}

#[test]
fn a_man_who_starts_to_smile_is_neutral_then_happy_and_faces_the_camera() {
    for kind in [DetectorKind::Yunet, DetectorKind::Blazeface] {
        let vision = load(kind);
        let read = read(&vision, &frames("single_face.mp4", 9));
        assert_eq!(read[0].2.top().0, Emotion::Neutral, "{kind:?}: {:?}", read[0]);
        for (time_s, face, emotions) in &read {
            let pose = head_pose(face, 640, 360).unwrap();
            assert!(pose.yaw.abs() < 8.0 && pose.pitch.abs() < 10.0 && pose.roll.abs() < 10.0, "{kind:?} {pose:?}");
            if *time_s > 1.0 {
                let (top, p) = emotions.top();
                assert!(top == Emotion::Happy && p > 0.9, "{kind:?} at {time_s}: {emotions:?}");
            }
        }
    }
}

#[test]
fn a_woman_who_cries_and_then_laughs_is_sad_then_happy() {
    for kind in [DetectorKind::Yunet, DetectorKind::Blazeface] {
        let read = read(&load(kind), &frames("sad_then_happy.mp4", 20));
        assert!(read.len() >= 22, "{kind:?}: {} of 24 frames", read.len());
        let mean = |emotion, from: f64, to: f64| {
            let some: Vec<_> =
                read.iter().filter(|(t, ..)| (from..to).contains(t)).map(|(.., p)| p.of(emotion)).collect();
            some.iter().sum::<f32>() / some.len() as f32
        };
        let (sad, glad) = (mean(Emotion::Sad, 0.0, 7.0), mean(Emotion::Happy, 0.0, 7.0));
        assert!(sad > 0.55 && glad < 0.1, "{kind:?}: 0-7 s sad {sad}, happy {glad}");
        let laughing = mean(Emotion::Happy, 11.0, 19.0);
        assert!(laughing > 0.9, "{kind:?}: 11-19 s happy {laughing}");
    }
}

#[test]
fn wrong_colour_or_scaling_lowers_the_accuracy_of_the_classifier() {
    let mut settings = settings(DetectorKind::Yunet);
    let clip = frames("sad_then_happy.mp4", 20);
    let right = |settings: &Settings| {
        let read = read(&Vision::load(settings).unwrap(), &clip);
        let known = read.iter().filter_map(|(t, _, p)| match t {
            ..7.0 => Some(p.of(Emotion::Sad)),
            11.0..19.0 => Some(p.of(Emotion::Happy)),
            _ => None,
        });
        let known: Vec<f32> = known.collect();
        known.iter().sum::<f32>() / known.len() as f32
    };
    let as_trained = right(&settings);
    // Two wrong scalings: pixels from 0 to 255 treated as 0 to 1, and pixels from 0 to 1 treated as -1 to 1.
    (settings.vision.emotion.mean, settings.vision.emotion.std) = (vec![0.0], vec![1.0 / 255.0]);
    let unscaled = right(&settings);
    (settings.vision.emotion.mean, settings.vision.emotion.std) = (vec![0.5], vec![-0.25]);
    let inverted = right(&settings);
    println!("mean probability of the right label: {as_trained:.3}, unscaled {unscaled:.3}, inverted {inverted:.3}");
    assert!(as_trained > unscaled + 0.1 && as_trained > inverted + 0.1);
}

#[test]
fn no_face_is_found_in_a_clip_without_faces() {
    for kind in [DetectorKind::Yunet, DetectorKind::Blazeface] {
        assert_eq!(read(&load(kind), &frames("no_face.mp4", 20)), [], "{kind:?}");
    }
}

#[test]
fn faces_in_one_batch_and_from_many_threads_give_the_same_results_as_one_by_one() {
    let vision = load(DetectorKind::Yunet);
    let (clip, picture) = (frames("single_face.mp4", 6), people());
    // A mix of frames of two sizes.
    let mut pictures: Vec<&Mat> = clip.iter().map(|(_, frame)| frame).collect();
    pictures.insert(3, &picture);
    let alone: Vec<(Vec<Face>, Vec<Probabilities>)> = pictures
        .iter()
        .map(|frame| {
            let faces = vision.detect(&[frame], 10).unwrap().remove(0);
            let read = |face| vision.classify(&[vision.crop(frame, face).unwrap()]).unwrap().remove(0);
            let emotions = faces.iter().map(read).collect();
            (faces, emotions)
        })
        .collect();
    let same = |faces: &[Vec<Face>], emotions: &[Vec<Probabilities>]| {
        for ((faces, emotions), (want, felt)) in faces.iter().zip(emotions).zip(&alone) {
            assert_eq!(faces.len(), want.len());
            for (face, want) in faces.iter().zip(want) {
                assert!(face.bbox.iou(&want.bbox) > 0.999 && (face.score - want.score).abs() < 1e-3);
            }
            for (emotions, felt) in emotions.iter().zip(felt) {
                assert!(emotions.0.iter().zip(felt.0).all(|(a, b)| (a - b).abs() < 2e-3), "{emotions:?} {felt:?}");
            }
        }
    };
    let together = |frames: &[&Mat]| -> (Vec<Vec<Face>>, Vec<Vec<Probabilities>>) {
        let faces = vision.detect(frames, 10).unwrap();
        let crops: Vec<_> = frames
            .iter()
            .zip(&faces)
            .flat_map(|(frame, faces)| faces.iter().map(|face| vision.crop(frame, face).unwrap()))
            .collect();
        let mut read = vision.classify(&crops).unwrap().into_iter();
        let emotions = faces.iter().map(|faces| read.by_ref().take(faces.len()).collect()).collect();
        (faces, emotions)
    };
    let (faces, emotions) = together(&pictures);
    same(&faces, &emotions);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let each: Vec<_> = pictures.iter().map(|frame| together(&[frame])).collect();
                let (faces, emotions): (Vec<_>, Vec<_>) =
                    each.into_iter().map(|(mut faces, mut read)| (faces.remove(0), read.remove(0))).unzip();
                same(&faces, &emotions);
            });
        }
    });
}

#[test]
fn blazeface_is_used_and_named_if_yunet_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(DetectorKind::Auto);
    assert_eq!(Vision::load(&settings).unwrap().models()[0].name, "yunet");
    settings.models.folder = folder.path().to_owned();
    let error = Vision::load(&settings).err().unwrap();
    assert!(error.is_missing() && error.to_string().contains("visage models pull"), "{error}");
    for file in ["blazeface.onnx", "emotion.onnx"] {
        std::fs::copy(models().join(file), folder.path().join(file)).unwrap();
    }
    let used = Vision::load(&settings).unwrap().models();
    let names: Vec<_> = used.iter().map(|model| model.name.as_str()).collect();
    assert_eq!(names, ["blazeface", "emotion"]);
    assert_eq!(used[0].sha256, manifest::entry("blazeface").unwrap().sha256);
    settings.vision.detector = DetectorKind::Yunet;
    let error = Vision::load(&settings).err().unwrap();
    assert!(
        matches!(&error, VisionError::Engine(EngineError::ModelMissing { name, .. }) if name == "yunet"),
        "{error}"
    );
}

#[test]
fn a_file_with_a_wrong_checksum_is_refused_unless_the_operator_configured_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(DetectorKind::Yunet);
    std::fs::copy(models().join("yunet_n_dynamic.onnx"), folder.path().join("yunet_n_dynamic.onnx")).unwrap();
    let mut bytes = std::fs::read(models().join("emotion.onnx")).unwrap();
    // An unknown field (number 1000, value 0) changes the file but not the model.
    bytes.extend([0xc0, 0x3e, 0x00]);
    std::fs::write(folder.path().join("emotion.onnx"), &bytes).unwrap();
    settings.models.folder = folder.path().to_owned();
    let error = Vision::load(&settings).err().unwrap();
    assert!(
        matches!(&error, VisionError::Engine(EngineError::ModelChanged { name, .. }) if name == "emotion"),
        "{error}"
    );
    assert!(error.is_missing());

    settings.vision.emotion.name = "mine".to_owned();
    let used = Vision::load(&settings).unwrap().models();
    assert_eq!(used[1].name, "mine");
    assert_ne!(used[1].sha256, manifest::entry("emotion").unwrap().sha256);
}

#[test]
fn a_classifier_that_does_not_match_its_settings_fails_the_start_with_the_key() {
    type Change = fn(&mut Settings);
    let cases: [(&str, Change); 4] = [
        ("vision.emotion.width", |settings| settings.vision.emotion.width = 64),
        ("vision.emotion.colour", |settings| settings.vision.emotion.colour = Colour::Rgb),
        ("vision.emotion.layout", |settings| settings.vision.emotion.layout = visage::config::Layout::Nhwc),
        ("vision.emotion.labels", |settings| drop(settings.vision.emotion.labels.pop())),
    ];
    for (wanted, change) in cases {
        let mut settings = settings(DetectorKind::Yunet);
        change(&mut settings);
        match Vision::load(&settings).err() {
            Some(VisionError::Setting { key, .. }) => assert_eq!(key, wanted),
            other => panic!("{wanted}: {other:?}"),
        }
    }
    let mut garbage = settings(DetectorKind::Yunet);
    garbage.vision.emotion.file = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let error = Vision::load(&garbage).err().unwrap();
    assert!(matches!(error, VisionError::Engine(EngineError::ModelRefused { .. })), "{error}");
}

#[test]
fn missing_cuda_is_an_error_with_device_cuda_and_the_cpu_is_used_with_auto() {
    let mut settings = settings(DetectorKind::Yunet);
    settings.engine.device = Device::Auto;
    let vision = Vision::load(&settings).unwrap();
    let taken = vision.engine().device().unwrap();
    settings.engine.device = Device::Cuda;
    match taken {
        ActiveDevice::Cpu => {
            let error = Vision::load(&settings).err().unwrap();
            assert!(error.is_missing() && error.to_string().contains("engine.device"), "{error}");
        }
        ActiveDevice::Cuda => assert_eq!(Vision::load(&settings).unwrap().engine().device(), Some(ActiveDevice::Cuda)),
    }
}

#[test]
fn a_missing_library_is_an_error_even_after_another_was_loaded() {
    let mut settings = settings(DetectorKind::Yunet);
    assert!(Engine::start(&settings.engine).is_ok());
    settings.engine.library = "/nowhere/libonnxruntime.so".to_owned();
    let error = Engine::start(&settings.engine).unwrap_err();
    assert!(error.is_missing() && error.to_string().contains("/nowhere/"), "{error}");
}

#[test]
fn a_warm_up_runs_the_installed_models_and_ignores_missing_ones() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["yunet_n_dynamic.onnx", "emotion.onnx"] {
        std::fs::copy(models().join(file), folder.path().join(file)).unwrap();
    }
    let mut settings = settings(DetectorKind::Yunet);
    settings.vision.emotion.name = "warmed".to_owned();
    let calls = |model: &str| {
        let text = metrics().text(Queues::default());
        let wanted = format!(r#"call_rows_count{{model="{model}"}}"#);
        let line = text.lines().find(|line| line.contains(&wanted));
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse::<u32>().unwrap())
    };
    for models in [folder.path(), models()] {
        settings.models.folder = models.to_owned();
        let vision = Vision::load(&settings).unwrap();
        let before = ["warmed", "yunet", "face_landmarks"].map(calls);
        vision.warm_up().unwrap();
        assert_eq!(calls("warmed"), before[0] + 1);
        // Other tests may use these models at the same time.
        assert!(calls("yunet") > before[1]);
        assert!(calls("face_landmarks") > before[2] || models == folder.path());
    }
}

#[test]
fn a_model_s_thread_ends_with_its_last_handle() {
    let engine = Engine::start(&settings(DetectorKind::Yunet).engine).unwrap();
    // Linux keeps at most 15 characters of the name of a thread.
    let threads = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|name| name.trim() == "model passing").count()
    };
    let model = engine.load("passing", &models().join("emotion.onnx")).unwrap();
    let other = model.clone();
    drop(model);
    other.run(ndarray::ArrayD::zeros(vec![1, 1, 48, 48])).unwrap();
    assert_eq!(threads(), 1);
    drop(other);
    assert_eq!(threads(), 0);
}

#[test]
fn a_network_with_prelu_computes_its_formula() {
    use onnx_rs::ast::{DataType, TensorShapeDimension, TensorTypeProto, TypeProto, TypeValue, ValueInfo};
    use onnx_rs::ast::{Dimension, Graph, Model, Node, OpType, OperatorSetId, TensorProto, TensorShape};
    let engine = Engine::start(&settings(DetectorKind::Yunet).engine).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for channels in [5_u8, 16] {
        let slopes: Vec<f32> = (0..channels).map(|channel| f32::from(channel) * 0.4 - 0.7).collect();
        let port = |name| {
            let size = |value: &Dimension<'static>| TensorShapeDimension { value: value.clone(), denotation: "" };
            let dims = [
                Dimension::Param("batch"),
                Dimension::Value(channels.into()),
                Dimension::Value(7),
                Dimension::Value(3),
            ];
            let shape = TensorShape { dim: dims.iter().map(size).collect() };
            let tensor = TensorTypeProto { elem_type: DataType::Float, shape: Some(shape) };
            ValueInfo {
                name,
                r#type: Some(TypeProto { value: Some(TypeValue::Tensor(tensor)), denotation: "" }),
                ..Default::default()
            }
        };
        let node = |op_type, input, output| Node { op_type, input, output: vec![output], ..Node::default() };
        let graph = Graph {
            name: "graph",
            // Doubles the value, so that the network has another node besides the one that is replaced.
            node: vec![node(OpType::Add, vec!["x", "x"], "twice"), node(OpType::PRelu, vec!["twice", "slopes"], "y")],
            initializer: vec![TensorProto::from_f32("slopes", vec![1, channels.into(), 1, 1], slopes.clone())],
            input: vec![port("x")],
            output: vec![port("y")],
            ..Graph::default()
        };
        let opset_import = vec![OperatorSetId { domain: "", version: 13 }];
        let file = Model { ir_version: 8, opset_import, graph: Some(graph), ..Model::default() };
        let path = folder.path().join("prelu.onnx");
        std::fs::write(&path, onnx_rs::encode(&file)).unwrap();

        let model = engine.load("prelu", &path).unwrap();
        let given = ndarray::Array4::from_shape_fn((2, channels.into(), 7, 3), |(n, c, y, x)| {
            (n * 31 + c * 7 + y * 3 + x) as f32 * 0.37 % 4.0 - 2.0
        });
        let outputs = model.run(given.clone().into_dyn()).unwrap();
        assert_eq!(outputs[0].shape(), given.shape());
        for (at, value) in given.indexed_iter() {
            let twice = 2.0 * value;
            let wanted = if twice < 0.0 { twice * slopes[at.1] } else { twice };
            let got = outputs[0][[at.0, at.1, at.2, at.3]];
            assert!((got - wanted).abs() < 1e-5, "{at:?}: {got} instead of {wanted}");
        }
    }
}

#[test]
fn pictures_other_than_8_bit_bgr_are_refused() {
    let vision = load(DetectorKind::Yunet);
    let gray = Mat::new_rows_cols_with_default(48, 48, opencv::core::CV_8UC1, Scalar::default()).unwrap();
    for wrong in [Mat::default(), gray] {
        assert!(matches!(vision.detect(&[&wrong], 1), Err(VisionError::Frame { .. })));
        let face = Face { bbox: Default::default(), score: 1.0, landmarks: None::<Landmarks> };
        assert!(matches!(vision.crop(&wrong, &face), Err(VisionError::Frame { .. })));
    }
    assert_eq!(vision.detect(&[], 1).unwrap(), Vec::<Vec<Face>>::new());
    assert_eq!(vision.classify(&[] as &[visage::vision::Crop; 0]).unwrap(), []);
}

#[test]
fn a_blurred_face_is_less_sharp_and_a_picture_without_a_face_has_no_landmarks() {
    let vision = load(DetectorKind::Yunet);
    for clip in ["single_face.mp4", "sad_then_happy.mp4"] {
        let all = frames(clip, 15);
        let (_, frame) = &all[all.len() - 2];
        let face = vision.detect(&[frame], 1).unwrap().remove(0).remove(0);
        let sharpness = |sigma: f64| {
            let mut blurred = frame.clone();
            if sigma > 0.0 {
                gaussian_blur_def(frame, &mut blurred, Size::default(), sigma).unwrap();
            }
            detail_reader(&vision).landmarks(&[(&blurred, &face)]).unwrap().remove(0).unwrap().clarity.sharpness
        };
        let found = [0.0, 2.0, 4.0, 8.0].map(sharpness);
        println!("{clip}: sharpness {found:?}, face {:?}", face.bbox);
        assert!(found.is_sorted_by(|a, b| a > b), "{clip}: {found:?}");
    }
    let sky = &frames("no_face.mp4", 40)[1].1;
    let face = vision.detect(&[&people()], 1).unwrap().remove(0).remove(0);
    assert_eq!(detail_reader(&vision).landmarks(&[(sky, &face)]).unwrap(), [None]);
}

#[test]
fn landmarks_do_not_depend_on_the_exact_box() {
    let vision = load(DetectorKind::Yunet);
    let frame = &frames("single_face.mp4", 30)[1].1;
    let face = vision.detect(&[frame], 1).unwrap().remove(0).remove(0);
    let head = |face: &Face| {
        let mesh = detail_reader(&vision).landmarks(&[(frame, face)]).unwrap().remove(0).unwrap();
        head_and_eyes(&mesh, frame.cols(), frame.rows()).unwrap()
    };
    let fits = head(&face);
    // One box is too large on one side. The other is too small and has no eye positions.
    let mut aside = face;
    aside.bbox.x += face.bbox.width * 0.3;
    let mut small = Face { landmarks: None, ..face };
    (small.bbox.y, small.bbox.height) = (face.bbox.y + face.bbox.height * 0.15, face.bbox.height * 0.6);
    for other in [head(&aside), head(&small)] {
        let off =
            [other.pose.yaw - fits.pose.yaw, other.pose.pitch - fits.pose.pitch, other.pose.roll - fits.pose.roll];
        assert!(off.iter().all(|angle| angle.abs() < 4.0), "{other:?} {fits:?}");
        let (a, b) = (other.eyes.unwrap(), fits.eyes.unwrap());
        assert!((a.gaze.yaw - b.gaze.yaw).abs() < 6.0 && (a.openness - b.openness).abs() < 0.06, "{a:?} {b:?}");
    }
}

#[test]
fn faces_are_searched_near_their_last_positions_and_every_fourth_time_in_the_whole_frame() {
    let vision = load(DetectorKind::Yunet);
    let (man, woman) = (&frames("single_face.mp4", 30)[1].1, &frames("sad_then_happy.mp4", 24)[14].1);
    let beside = |pictures: [&Mat; 2]| {
        let mut frame = Mat::default();
        hconcat2(pictures[0], pictures[1], &mut frame).unwrap();
        frame
    };
    let grey = Mat::new_rows_cols_with_default(man.rows(), man.cols(), man.typ(), Scalar::all(128.0)).unwrap();
    let (alone, both, nobody) = (beside([man, &grey]), beside([man, woman]), beside([&grey, &grey]));
    let mut detector = WindowDetector::default();
    let mut seen = |frame: &Mat| detector.detect(&vision, frame, 10).unwrap();
    let whole = seen(&alone);
    let near = seen(&both);
    let later = [(); 3].map(|()| seen(&both).len());
    assert_eq!((whole.len(), near.len(), later), (1, 1, [1, 1, 2]));
    assert!(whole[0].bbox.iou(&near[0].bbox) > 0.85, "{whole:?} and {near:?}");
    // If a face is lost, the whole frame is searched immediately.
    assert_eq!([seen(&alone).len(), seen(&nobody).len(), seen(&both).len()], [1, 0, 2]);
}
