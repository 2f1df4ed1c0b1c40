//! Analyzes the speech of sound tracks.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use visage::analysis::{Analysis, Language, Options, Speech, Warning};
use visage::config::{Settings, Video};
use visage::engine::Engine;
use visage::media::{SOUND_RATE, Sound, SoundError, Source};
use visage::pipeline::{Cancel, Pipeline};
use visage::speech::SpeechModels;

use crate::support::clips::{Clips, Models, models, shared};
use crate::support::decoders;

const EVERY_40TH: Options = Options::new(40, 10);

/// Loads the pipeline with all models of sound.
fn pipeline() -> (Pipeline, Models) {
    let models = models().with("silero_vad.onnx").with("dnsmos_sig_bak_ovr.onnx");
    (Pipeline::load(&models.settings(), &decoders(&models.settings())).unwrap(), models)
}

fn analyze(pipeline: &Pipeline, path: &Path) -> Analysis {
    let source = Source::File(path.to_owned());
    let mut findings = pipeline.analyze(&source, EVERY_40TH, &|_| {}, &Cancel::default()).unwrap();
    visage::report::tell(&mut findings.analysis, Language::EN);
    findings.analysis
}

fn limits() -> Video {
    Settings::defaults().unwrap().video
}

/// Reads all samples of the sound track of a clip.
fn samples(path: &Path) -> Vec<f32> {
    let source = Source::File(path.to_owned());
    let mut sound = Sound::open(&source, &limits(), || false).unwrap().expect("a sound track");
    let mut all = Vec::new();
    while let Some(block) = sound.next(&|| false).unwrap() {
        assert!((1..=16_384).contains(&block.len()), "a block of {}", block.len());
        all.extend(block);
    }
    all
}

fn seconds(samples: &[f32]) -> f64 {
    samples.len() as f64 / f64::from(SOUND_RATE)
}

/// Counts the upward zero crossings of a sine.
fn cycles(samples: &[f32]) -> usize {
    samples.windows(2).filter(|pair| pair[0] < 0.0 && pair[1] >= 0.0).count()
}

/// Root of the mean square.
fn level(samples: &[f32]) -> f32 {
    (samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len() as f32).sqrt()
}

const PICTURES: &str = "-f lavfi -i testsrc=size=64x64:rate=5:duration=4";

#[test]
fn every_usual_codec_gives_the_same_sound_at_16_khz() {
    let clips = Clips::new();
    let tone = "-f lavfi -i sine=frequency=440:duration=4:sample_rate=";
    for (name, rate, coding) in [
        ("aac.mp4", 44_100, "-c:v mpeg4 -c:a aac"),
        ("stereo.mov", 48_000, "-c:v mpeg4 -c:a aac -af pan=stereo|c0=c0|c1=c0"),
        ("surround.mkv", 48_000, "-c:v mpeg4 -c:a aac -ac 6"),
        ("mp3.avi", 44_100, "-c:v mpeg4 -c:a libmp3lame"),
        ("opus.webm", 48_000, "-c:v libvpx -c:a libopus"),
        ("vorbis.webm", 44_100, "-c:v libvpx -c:a libvorbis"),
        ("pcm.avi", 8_000, "-c:v mpeg4 -c:a pcm_s16le"),
        ("float.mkv", 96_000, "-c:v mpeg4 -c:a pcm_f32le"),
        ("same.mov", 16_000, "-c:v mpeg4 -c:a pcm_s16be"),
    ] {
        let clip = clips.make(name, &format!("{PICTURES} {tone}{rate} {coding}"));
        let sound = samples(&clip);
        assert!((seconds(&sound) - 4.0).abs() < 0.1, "{name}: {} s", seconds(&sound));
        let middle = &sound[SOUND_RATE as usize..3 * SOUND_RATE as usize];
        assert!(cycles(middle).abs_diff(880) <= 4, "{name}: {} cycles in 2 s", cycles(middle));
        // The level is an eighth of full scale, even if only one of six channels has the tone.
        let expected = 0.125 / 2.0_f32.sqrt();
        let range =
            if name.starts_with("surround") { 0.1 * expected..1.1 * expected } else { 0.9 * expected..1.1 * expected };
        assert!(range.contains(&level(middle)), "{name}: {} for {expected}", level(middle));
    }
}

#[test]
fn speech_is_detected_in_every_usual_codec_and_container() {
    let talk = shared("speech_and_face.mp4");
    let models = models().with("silero_vad.onnx");
    let settings = models.settings();
    let speech_models = SpeechModels::new(&Engine::start(&settings.engine).unwrap(), &settings);
    let clips = Clips::new();
    std::fs::copy(talk, clips.path("talk.mp4")).unwrap();
    let ratio = |clip: &Path| {
        let mut analyzer = speech_models.analyzer().unwrap();
        analyzer.push(&samples(clip)).unwrap();
        analyzer.finish().unwrap().speech.ratio
    };
    let cut = format!("{PICTURES} -ss 4 -t 8 -i $talk.mp4 -map 0:v -map 1:a");
    let plain = ratio(&clips.make("plain.mkv", &format!("{cut} -c:v mpeg4 -c:a pcm_s16le")));
    assert!(plain > 0.5, "{plain}");
    for (name, coding) in [
        ("aac.mp4", "-c:v mpeg4 -c:a aac"),
        ("aac.mov", "-c:v mpeg4 -c:a aac -ac 2"),
        ("aac.mkv", "-c:v mpeg4 -c:a aac"),
        ("mp3.mp4", "-c:v mpeg4 -c:a libmp3lame"),
        ("mp3.avi", "-c:v mpeg4 -c:a libmp3lame"),
        ("opus.webm", "-c:v libvpx -c:a libopus"),
        ("opus.mkv", "-c:v mpeg4 -c:a libopus"),
        ("opus.mp4", "-c:v mpeg4 -c:a libopus -strict -2"),
        ("vorbis.webm", "-c:v libvpx -c:a libvorbis -ar 44100"),
        ("vorbis.mkv", "-c:v mpeg4 -c:a libvorbis"),
        ("pcm.mov", "-c:v mpeg4 -c:a pcm_s16be -ar 48000"),
        ("pcm.avi", "-c:v mpeg4 -c:a pcm_s16le"),
    ] {
        let heard = ratio(&clips.make(name, &format!("{cut} {coding}")));
        assert!((heard - plain).abs() < 0.1, "{name}: {heard}, not {plain}");
    }
}

#[test]
fn a_late_sound_track_is_preceded_by_silence() {
    let clips = Clips::new();
    let tone = "-itsoffset 1.5 -f lavfi -i sine=frequency=440:duration=2";
    for name in ["late.mkv", "late.mp4"] {
        let sound = samples(&clips.make(name, &format!("{PICTURES} {tone} -c:v mpeg4 -c:a aac")));
        assert!((seconds(&sound) - 3.5).abs() < 0.1, "{name}: {} s", seconds(&sound));
        let (before, after) = sound.split_at(24_000);
        assert!(level(&before[..23_000]) < 0.001 && level(after) > 0.05, "{name}");
    }
}

#[test]
fn a_clip_without_sound_has_no_samples_and_a_file_that_is_not_a_video_is_refused() {
    let clips = Clips::new();
    let mute = clips.moving("mute.mp4", 1.0, "-c:v mpeg4");
    assert!(Sound::open(&Source::File(mute), &limits(), || false).unwrap().is_none());
    let text = clips.write("list.mp4", b"#EXTM3U\nfile:///etc/passwd");
    let refused = Sound::open(&Source::File(text), &limits(), || false).map(|_| ());
    assert!(matches!(refused, Err(SoundError::Source(_))), "{refused:?}");
}

#[test]
fn sound_ends_at_the_duration_limit_even_if_the_file_is_longer() {
    let clips = Clips::new();
    let clip = clips.make("long.mp4", &format!("{PICTURES} -f lavfi -i sine=duration=30 -c:v mpeg4 -c:a aac"));
    let source = Source::File(clip);
    let mut sound = Sound::open(&source, &Video { max_duration_s: 5, ..limits() }, || false).unwrap().unwrap();
    let mut count = 0;
    while let Some(block) = sound.next(&|| false).unwrap() {
        count += block.len();
    }
    assert_eq!(count, 5 * SOUND_RATE as usize);
}

#[test]
fn reading_sound_stops_when_it_is_cancelled() {
    let clips = Clips::new();
    let clip = clips.make("long.mp4", &format!("{PICTURES} -f lavfi -i sine=duration=30 -c:v mpeg4 -c:a aac"));
    let mut sound = Sound::open(&Source::File(clip), &limits(), || false).unwrap().unwrap();
    let asked = Cell::new(0);
    let stop = || {
        asked.set(asked.get() + 1);
        asked.get() > 50
    };
    let mut blocks = 0;
    let end = loop {
        match sound.next(&stop) {
            Ok(Some(_)) => blocks += 1,
            other => break other,
        }
    };
    assert!(matches!(end, Err(SoundError::Cancelled)) && blocks < 50, "{end:?} after {blocks}");
}

#[test]
fn clean_and_noisy_speech_get_the_ratings_of_the_reference_implementation() {
    let (pipeline, _models) = pipeline();
    let clean = shared("speech_and_face.mp4");
    let noisy = shared("noisy_speech_and_face.mp4");
    let [clean, noisy] = [clean, noisy].map(|clip| {
        let analysis = analyze(&pipeline, &clip);
        let names: Vec<_> = analysis.models.iter().map(|model| model.name.as_str()).collect();
        assert!(names.ends_with(&["silero_vad", "dnsmos"]), "{names:?}");
        assert!(!analysis.faces.is_empty());
        eprintln!("{:?} {:?}", analysis.speech, analysis.warnings);
        analysis.speech.unwrap()
    });
    let overall = |speech: &Speech| speech.quality_mos.as_ref().unwrap().ovr;
    // Results of the Python package silero-vad 6.2.3 (`get_speech_timestamps_from_probs`, speech_pad_ms=0) for the same
    // sound: ratio 0.808, longest gap 2.496 s; with the noise 0.778 and 2.528 s.
    for (speech, ratio, longest_pause_s) in [(&clean, 0.808, 2.496), (&noisy, 0.778, 2.528)] {
        assert!((speech.ratio - ratio).abs() < 0.015, "{ratio}: {speech:?}");
        assert!((speech.longest_pause_s - longest_pause_s).abs() < 0.07, "{longest_pause_s}: {speech:?}");
    }
    // The Python package speechmos 0.0.1.1 rates every second. It gives 3.16 and 1.58 for the whole tracks, and 2.93
    // and 2.00 for their speech without the pauses. Expected is the mean of both numbers. The tolerance is that of
    // `docs/METRICS.md` plus half their distance.
    assert!((overall(&clean) - 3.05).abs() <= 0.3, "{clean:?}");
    assert!((overall(&noisy) - 1.8).abs() <= 0.3, "{noisy:?}");
    assert!(clean.clarity.unwrap() - noisy.clarity.unwrap() >= 25.0, "{clean:?} {noisy:?}");
    assert!((2.0..7.0).contains(&clean.syllables_per_s.unwrap()), "{clean:?}");
    assert!(clean.pauses > 3, "{clean:?}");
}

#[test]
fn a_long_talk_gets_the_ratings_of_a_short_one() {
    let (_, models) = pipeline();
    let clip = shared("speech_and_face.mp4");
    let settings = models.settings();
    let speech_models = SpeechModels::new(&Engine::start(&settings.engine).unwrap(), &settings);
    let sound = samples(&clip);
    let listen = |times: usize| {
        let mut analyzer = speech_models.analyzer().unwrap();
        (0..times).for_each(|_| analyzer.push(&sound).unwrap());
        analyzer.finish().unwrap().speech
    };
    // The long talk has three minutes and several rated windows, the short one has one window.
    let [short, long] = [1, 5].map(listen);
    let overall = |speech: &Speech| speech.quality_mos.as_ref().unwrap().ovr;
    assert!((overall(&short) - overall(&long)).abs() < 0.15, "{short:?} {long:?}");
    assert!((short.ratio - long.ratio).abs() < 0.03, "{short:?} {long:?}");
    assert!((short.syllables_per_s.unwrap() - long.syllables_per_s.unwrap()).abs() < 0.2, "{short:?} {long:?}");
}

#[test]
fn silence_between_two_talks_is_one_pause_of_that_length() {
    let (pipeline, _models) = pipeline();
    let clip = shared("speech_and_face.mp4");
    let clips = Clips::new();
    std::fs::copy(clip, clips.path("talk.mp4")).unwrap();
    // Five seconds of talk, six of silence, five of talk.
    let filter = "[1:a]atrim=5:10,asetpts=N/SR/TB,apad=pad_dur=6[a];[1:a]atrim=20:25,asetpts=N/SR/TB[b];\
                  [a][b]concat=n=2:v=0:a=1[s]";
    let clip = clips.make(
        "pause.webm",
        &format!("{PICTURES} -i $talk.mp4 -filter_complex {filter} -map 0:v -map [s] -c:v libvpx -c:a libopus"),
    );
    let speech = analyze(&pipeline, &clip).speech.unwrap();
    assert!((6.0..8.0).contains(&speech.longest_pause_s), "{speech:?}");
    let silences = speech.spans.windows(2).map(|pair| pair[1].start_s - pair[0].end_s);
    assert!((silences.fold(0.0, f64::max) - speech.longest_pause_s).abs() < 1e-9, "{speech:?}");
    assert!((0.3..0.65).contains(&speech.ratio), "{speech:?}");
    assert!(speech.clarity.is_some());
}

#[test]
fn sound_without_speech_gets_a_warning() {
    let (pipeline, _models) = pipeline();
    let clips = Clips::new();
    let noise = "-f lavfi -i anoisesrc=color=pink:amplitude=0.2:duration=8";
    let clip = clips.make("noise.mp4", &format!("{PICTURES} {noise} -c:v mpeg4 -c:a aac"));
    let analysis = analyze(&pipeline, &clip);
    let nothing = Speech {
        ratio: 0.0,
        clarity: None,
        quality_mos: None,
        syllables_per_s: None,
        fluency: None,
        pauses: 0,
        longest_pause_s: 0.0,
        spans: Vec::new(),
    };
    assert_eq!(analysis.speech, Some(nothing));
    assert!(analysis.warnings.iter().any(|warning| warning.contains("No speech")), "{:?}", analysis.warnings);
}

#[test]
fn every_test_clip_gives_figures_in_their_ranges() {
    let (pipeline, _models) = pipeline();
    for name in ["sad_then_happy.mp4", "single_face.mp4", "face_then_none.mov", "no_face.mp4"] {
        let clip = shared(name);
        let analysis = analyze(&pipeline, &clip);
        eprintln!("{name}: {:?} {:?}", analysis.speech, analysis.warnings);
        assert_eq!(analysis.speech.is_some(), analysis.video.has_audio, "{name}: {:?}", analysis.warnings);
        let Some(speech) = analysis.speech else { continue };
        assert!((0.0..=1.0).contains(&speech.ratio), "{name}: {speech:?}");
        assert!(speech.clarity.is_none_or(|clarity| (0.0..=100.0).contains(&clarity)), "{name}: {speech:?}");
        for mos in speech.quality_mos.iter().flat_map(|mos| [mos.sig, mos.bak, mos.ovr]) {
            assert!((1.0..=5.0).contains(&mos), "{name}: {speech:?}");
        }
    }
}

#[test]
fn missing_and_disabled_models_leave_out_figures_with_a_warning() {
    let models = models();
    let clip = shared("single_face.mp4");
    let said = |analysis: &Analysis, words: &str| analysis.warnings.iter().any(|warning| warning.contains(words));

    let without = analyze(&Pipeline::load(&models.settings(), &decoders(&models.settings())).unwrap(), &clip);
    assert!(
        without.speech.is_none() && said(&without, "silero_vad, which finds speech, is not installed"),
        "{:?}",
        without.warnings
    );

    let models = models.with("silero_vad.onnx");
    let talk = shared("speech_and_face.mp4");
    let partly = analyze(&Pipeline::load(&models.settings(), &decoders(&models.settings())).unwrap(), &talk);
    let speech = partly.speech.as_ref().unwrap();
    assert!(speech.ratio > 0.5 && speech.clarity.is_none() && speech.quality_mos.is_none(), "{speech:?}");
    assert!(said(&partly, "dnsmos is not installed"), "{:?}", partly.warnings);

    // An invalid model file is not read if speech is disabled.
    std::fs::write(models.path().join("dnsmos_sig_bak_ovr.onnx"), b"not a model").unwrap();
    let mut settings = models.settings();
    settings.speech.enabled = false;
    let off = analyze(&Pipeline::load(&settings, &decoders(&settings)).unwrap(), &talk);
    assert!(off.speech.is_none() && said(&off, "switched off"), "{:?}", off.warnings);
    assert!(
        !off.models.iter().any(|model| ["silero_vad", "dnsmos"].contains(&model.name.as_str())),
        "{:?}",
        off.models
    );
}

#[test]
fn an_undecodable_sound_track_leaves_out_speech_but_does_not_fail_the_analysis() {
    let (pipeline, _models) = pipeline();
    let clips = Clips::new();
    let clip = clips.make("odd.mp4", &format!("{PICTURES} -f lavfi -i sine=duration=4 -c:v mpeg4 -c:a aac"));
    // Replace the name of the codec and of its description by unknown ones.
    let mut bytes = std::fs::read(&clip).unwrap();
    let at = |bytes: &[u8], from: usize, tag: &[u8]| {
        from + bytes[from..].windows(4).position(|four| four == tag).expect("an MP4 box")
    };
    let sample = at(&bytes, 0, b"mp4a");
    let description = at(&bytes, sample, b"esds");
    for tag in [sample, description] {
        bytes[tag..tag + 4].copy_from_slice(b"zzzz");
    }
    let analysis = analyze(&pipeline, &clips.write("broken.mp4", &bytes));
    assert!(analysis.video.frames_analyzed > 0);
    let said = analysis.warnings.iter().any(|warning| warning.contains("sound track could not be"));
    assert!(analysis.speech.is_none() && said, "{:?}", analysis.warnings);
}

#[test]
fn a_sound_codec_outside_the_list_leaves_out_speech_and_is_named() {
    let (pipeline, _models) = pipeline();
    let clips = Clips::new();
    let clip = clips.make("dts.mkv", &format!("{PICTURES} -f lavfi -i sine=duration=4 -c:v mpeg4 -c:a dca -strict -2"));
    let analysis = analyze(&pipeline, &clip);
    assert!(analysis.video.frames_analyzed > 0 && analysis.speech.is_none());
    assert!(analysis.warning_codes.contains(&Warning::SoundCodecNotAllowed { codec: "dts".to_owned() }));
    assert!(
        analysis.warnings.iter().any(|warning| warning.contains("the codec dts, which this service does not decode")),
        "{:?}",
        analysis.warnings
    );
}

#[test]
fn speech_and_faces_have_the_same_time_axis() {
    let (pipeline, _models) = pipeline();
    let clips = Clips::new();
    std::os::unix::fs::symlink(shared("speech_and_face.mp4"), clips.path("whole.mp4")).unwrap();
    clips.make("talk.mp4", "-i $whole.mp4 -t 8 -c copy");
    let plain = analyze(&pipeline, &clips.path("talk.mp4"));
    let begins = |analysis: &Analysis| analysis.speech.as_ref().unwrap().spans[0].start_s;
    // In the first file the pictures begin 3 s after the sound, in the second the sound 2 s after the pictures.
    for (name, arguments, (pictures_s, sound_s)) in [
        ("pictures.mp4", "-i $talk.mp4 -itsoffset 3 -i $talk.mp4 -map 1:v -map 0:a -c copy", (3.0, 0.0)),
        ("sound.mkv", "-i $talk.mp4 -itsoffset 2 -i $talk.mp4 -map 0:v -map 1:a -c copy", (0.0, 2.0)),
    ] {
        let late = analyze(&pipeline, &clips.make(name, arguments));
        let (face, before) = (&late.faces[0], &plain.faces[0]);
        assert!((face.first_s - before.first_s - pictures_s).abs() < 0.05, "{name}: {face:?}");
        assert!((face.last_s - before.last_s - pictures_s).abs() < 0.05, "{name}: {face:?}");
        assert!((begins(&late) - begins(&plain) - sound_s).abs() < 0.05, "{name}: {:?}", late.speech);
    }
}

/// Renames the n-th box of this type.
fn rename(bytes: &mut [u8], nth: usize, tag: &[u8; 4], new: &[u8; 4]) {
    let at = (0..bytes.len() - 4).filter(|at| bytes[*at..].starts_with(tag)).nth(nth).expect("an MP4 box");
    bytes[at..at + 4].copy_from_slice(new);
}

/// The range of the data in an MP4 file without its index.
fn samples_of(bytes: &[u8]) -> std::ops::Range<usize> {
    let at = bytes.windows(4).position(|four| four == b"mdat").unwrap();
    at + 4..at - 4 + u32::from_be_bytes(bytes[at - 4..at].try_into().unwrap()) as usize
}

#[test]
fn another_track_replaces_a_default_one_that_cannot_be_decoded() {
    let (pipeline, _models) = pipeline();
    let clips = Clips::new();
    let plain = analyze(&pipeline, &talk(&clips)).speech.unwrap();
    assert!(plain.ratio > 0.5, "{plain:?}");
    let two = "-i $talk.mp4 -f lavfi -i sine=duration=8 -map 0:v -map 1:a -map 0:a -c:v copy -c:a aac \
               -disposition:a:0 default -disposition:a:1 0";
    let whole = std::fs::read(clips.make("two.mp4", two)).unwrap();
    let mut undecodable = whole.clone();
    rename(&mut undecodable, 0, b"mp4a", b"zzzz");
    rename(&mut undecodable, 0, b"esds", b"zzzz");
    let key = "-encryption_scheme cenc-aes-ctr -encryption_key 76a6c65c5ea762046bd749a2e632ccbb \
               -encryption_kid a7e61c373e219033c21091fa607bf3b8";
    // The marks of encryption stay at the first sound track only, and the samples are not encrypted.
    let mut encrypted = std::fs::read(clips.make("encrypted.mp4", &format!("{two} {key}"))).unwrap();
    encrypted[samples_of(&whole)].copy_from_slice(&whole[samples_of(&whole)]);
    for tag in [b"senc", b"saiz", b"saio", b"tenc"] {
        rename(&mut encrypted, 2, tag, b"free");
        rename(&mut encrypted, 0, tag, b"free");
    }
    let mut both = undecodable.clone();
    rename(&mut both, 0, b"mp4a", b"zzzz");
    rename(&mut both, 0, b"esds", b"zzzz");
    for (name, bytes, is_heard) in
        [("undecodable.mp4", undecodable, true), ("sealed.mp4", encrypted, true), ("both.mp4", both, false)]
    {
        let analysis = analyze(&pipeline, &clips.write(name, &bytes));
        let said = analysis.warning_codes.contains(&Warning::ReadableSoundTrack { stream: 2 });
        assert_eq!(said, is_heard, "{name}: {:?}", analysis.warnings);
        let ratio = analysis.speech.as_ref().map(|speech| speech.ratio);
        let is_right = ratio.is_some_and(|ratio| (ratio - plain.ratio).abs() < 0.06);
        assert!(if is_heard { is_right } else { ratio.is_none() }, "{name}: {ratio:?}");
        assert_eq!(analysis.warning_codes.contains(&Warning::SoundUndecodable), !is_heard, "{name}");
    }
}

/// Makes `talk.mp4`, eight seconds of a talk.
fn talk(clips: &Clips) -> PathBuf {
    std::os::unix::fs::symlink(shared("speech_and_face.mp4"), clips.path("whole.mp4")).unwrap();
    clips.make("talk.mp4", "-i $whole.mp4 -t 8 -c copy")
}

#[test]
fn speech_is_detected_in_any_channel_and_track() {
    let (pipeline, _models) = pipeline();
    let clips = Clips::new();
    let talk = talk(&clips);
    let plain = analyze(&pipeline, &talk).speech.unwrap();
    assert!(plain.ratio > 0.5, "{plain:?}");
    let whole = level(&samples(&talk));
    let pan = |channels: &str| format!("-i $talk.mp4 -c:v copy -c:a aac -af pan={channels}");
    let later = "-i $talk.mp4 -c:v copy -c:a aac -af \
                 aeval=val(0)|if(lt(t\\,4)\\,val(0)\\,-val(0)):c=stereo,aformat=channel_layouts=stereo";
    let rumble =
        "-i $talk.mp4 -c:v copy -c:a aac -af aeval=0|0|val(0)|0.9*sin(251*t)|0|0:c=5.1,aformat=channel_layouts=5.1";
    for (name, arguments) in [
        ("rumble.mp4", rumble.to_owned()),
        ("opposite.mp4", pan("stereo|c0=c0|c1=-1*c0")),
        ("opposite_later.mp4", later.to_owned()),
        ("dual_mono.mp4", pan("stereo|c0=c0|c1=c0")),
        ("left.mp4", pan("stereo|c0=c0|c1=0*c0")),
        ("right.mp4", pan("stereo|c0=0*c0|c1=c0")),
        ("quiet_opposite.mp4", pan("stereo|c0=c0|c1=-0.5*c0")),
        ("centre_of_6.mp4", pan("5.1|FC=c0")),
        ("centre_of_8.mp4", pan("7.1|FC=c0")),
    ] {
        let clip = clips.make(name, &arguments);
        let analysis = analyze(&pipeline, &clip);
        let speech = analysis.speech.unwrap();
        assert!((speech.ratio - plain.ratio).abs() < 0.06, "{name}: {} for {}", speech.ratio, plain.ratio);
        let louder = level(&samples(&clip)) / whole;
        assert!((0.85..1.15).contains(&louder), "{name}: {louder}");
        assert!(!analysis.warnings.iter().any(|warning| warning.contains("silent")), "{:?}", analysis.warnings);
    }
}

#[test]
fn another_track_replaces_the_default_one_only_if_that_is_silent() {
    let (pipeline, _models) = pipeline();
    let clips = Clips::new();
    let plain = analyze(&pipeline, &talk(&clips)).speech.unwrap();
    assert!(plain.ratio > 0.5, "{plain:?}");
    let nothing = "-f lavfi -i anullsrc=r=48000:cl=stereo:d=8";
    let hum = "-f lavfi -i sine=frequency=100:duration=8";
    let maps = "-map 0:v -map 1:a -map 0:a -c:v copy -c:a aac -disposition:a:0 default";
    for (name, first, marks, is_heard) in [
        ("silent.mp4", nothing, "-disposition:a:1 0", true),
        ("silent.mkv", nothing, "-disposition:a:1 0", true),
        (
            "other_language.mkv",
            nothing,
            "-disposition:a:1 0 -metadata:s:a:0 language=eng -metadata:s:a:1 language=ger",
            true,
        ),
        ("commentary.mkv", nothing, "-disposition:a:1 comment", false),
        ("impaired.mkv", nothing, "-disposition:a:1 visual_impaired", false),
        ("hum.mkv", hum, "-disposition:a:1 0", false),
    ] {
        let analysis = analyze(&pipeline, &clips.make(name, &format!("-i $talk.mp4 {first} {maps} {marks}")));
        let said =
            analysis.warnings.iter().any(|warning| warning.contains("stream 2 of the file was analyzed instead"));
        let ratio = analysis.speech.as_ref().unwrap().ratio;
        let expected = if is_heard { plain.ratio } else { 0.0 };
        assert!((ratio - expected).abs() < 0.06 && said == is_heard, "{name}: {ratio} {:?}", analysis.warnings);
    }
}
