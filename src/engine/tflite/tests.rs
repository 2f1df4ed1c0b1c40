//! Tests with small generated files: each is converted and run, and the result is compared with known values.

mod file;

use ndarray::{ArrayD, IxDyn};
use onnx_rs::ast::OpType;
use ort::session::Session;
use ort::value::TensorRef;

use self::file::{Byte, FLOAT16, Field, File, INT8, INT32, Int, Pair};
use super::*;
use crate::config::Settings;
use crate::engine::Engine;

fn session(model: &[u8]) -> Session {
    let engine = Engine::start(&Settings::defaults().unwrap().engine).unwrap();
    engine.cpu_session("converted", model.to_vec()).unwrap()
}

/// Converts the file and runs it on one input.
fn run(file: &File, shape: &[usize], values: &[f32]) -> (Vec<usize>, Vec<f32>) {
    let model = convert(&file.write()).unwrap();
    let input = ArrayD::from_shape_vec(IxDyn(shape), values.to_vec()).unwrap();
    let mut session = session(&model);
    let outputs = session.run(ort::inputs![TensorRef::from_array_view(input.view()).unwrap()]).unwrap();
    let output = outputs[0].try_extract_array::<f32>().unwrap();
    (output.shape().to_vec(), output.iter().copied().collect())
}

fn near(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{found:?}");
    assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?} is not {expected:?}");
}

/// Returns a file of one operator with one input, followed by constants.
fn single_operator(
    code: i32,
    shape: &[i32],
    constants: &[(&[i32], &[f32])],
    out: &[i32],
    options: (u8, Vec<Field>),
) -> File {
    let mut file = File::default();
    let mut inputs = vec![file.input(shape)];
    for (shape, values) in constants {
        inputs.push(file.floats(shape, values));
    }
    let output = file.operator(code, &inputs, out, options);
    file.outputs = vec![output];
    file
}

/// Options of `CONV_2D`: padding, stride, activation.
fn conv(padding: u8, stride: i32, activation: u8) -> (u8, Vec<Field>) {
    (1, vec![Byte(0, padding), Int(1, stride), Int(2, stride), Byte(3, activation)])
}

fn count(to: usize) -> Vec<f32> {
    (0..to).map(|n| n as f32).collect()
}

#[test]
fn a_convolution_reorders_its_weights_and_its_picture() {
    // Two channels of 1 x 3 pixels. The outputs are the sum of both channels and the second minus the first.
    let weights: (&[i32], &[f32]) = (&[2, 1, 1, 2], &[1.0, 1.0, -1.0, 1.0]);
    let file = single_operator(3, &[1, 1, 3, 2], &[weights, (&[2], &[0.5, 0.0])], &[1, 1, 3, 2], conv(1, 1, 0));
    let (shape, values) = run(&file, &[1, 1, 3, 2], &[1.0, 10.0, 2.0, 20.0, 3.0, 30.0]);
    assert_eq!(shape, [1, 1, 3, 2]);
    near(&values, &[11.5, 9.0, 22.5, 18.0, 33.5, 27.0]);
}

#[test]
fn padding_is_computed_as_in_tensorflow_and_activations_are_applied() {
    // A window of 1 x 2 in steps of 2 over 3 pixels: SAME adds a zero after the last pixel, VALID omits the last pixel.
    let weights: (&[i32], &[f32]) = (&[1, 1, 2, 1], &[1.0, 1.0]);
    let picture = [-3.0, 1.0, 9.0];
    for (padding, activation, expected) in
        [(0, 0, &[-2.0, 9.0][..]), (1, 0, &[-2.0]), (0, 1, &[0.0, 9.0]), (0, 3, &[0.0, 6.0])]
    {
        let out = [1, 1, expected.len() as i32, 1];
        let file = single_operator(3, &[1, 1, 3, 1], &[weights], &out, conv(padding, 2, activation));
        near(&run(&file, &[1, 1, 3, 1], &picture).1, expected);
    }
}

#[test]
fn a_depthwise_convolution_processes_channels_separately() {
    let weights: (&[i32], &[f32]) = (&[1, 1, 2, 2], &[1.0, 10.0, 2.0, 20.0]);
    let options = (2, vec![Byte(0, 1), Int(1, 1), Int(2, 1), Int(3, 1)]);
    let file = single_operator(4, &[1, 1, 3, 2], &[weights], &[1, 1, 2, 2], options);
    // One channel is 1, 2, 3, the other is 4, 5, 6.
    near(&run(&file, &[1, 1, 3, 2], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]).1, &[5.0, 140.0, 8.0, 170.0]);
}

#[test]
fn max_pooling_takes_the_maximum_of_each_channel() {
    let options = (5, vec![Byte(0, 1), Int(1, 2), Int(2, 1), Int(3, 2), Int(4, 1)]);
    let file = single_operator(17, &[1, 1, 4, 2], &[], &[1, 1, 2, 2], options);
    near(&run(&file, &[1, 1, 4, 2], &[1.0, -8.0, 2.0, -7.0, 4.0, -5.0, 3.0, -6.0]).1, &[2.0, -7.0, 4.0, -5.0]);
}

#[test]
fn a_prelu_with_one_slope_per_channel_is_rewritten_for_the_cpu() {
    let mut file = File::default();
    let input = file.input(&[1, 2, 2, 16]);
    let weights = file.floats(&[16, 1, 1, 16], &(0..256).map(|n| f32::from(n % 17 == 0)).collect::<Vec<_>>());
    let convolved = file.operator(3, &[input, weights], &[1, 2, 2, 16], conv(1, 1, 0));
    let slopes = file.floats(&[1, 1, 16], &count(16));
    let output = file.operator(54, &[convolved, slopes], &[1, 2, 2, 16], (0, vec![]));
    file.outputs = vec![output];
    let values: Vec<f32> = (0..64).map(|n| if n < 32 { -1.0 } else { 2.0 }).collect();
    let expected: Vec<f32> = (0..64u8).map(|n| if n < 32 { -f32::from(n % 16) } else { 2.0 }).collect();
    near(&run(&file, &[1, 2, 2, 16], &values).1, &expected);
    let model = convert(&file.write()).unwrap();
    let rewritten = crate::engine::rewrite::for_cpu(&model).unwrap();
    let graph = onnx_rs::parse(&rewritten).unwrap().graph.unwrap();
    assert!(graph.node.iter().all(|node| node.op_type != OpType::PRelu));
}

#[test]
fn binary_operators_are_element_wise() {
    for (code, options, expected) in [
        (0, (11, vec![]), [3.0, 5.0, 7.0, 9.0]),
        (41, (28, vec![]), [-1.0, -1.0, -1.0, -1.0]),
        (18, (21, vec![]), [2.0, 6.0, 12.0, 20.0]),
        (42, (29, vec![]), [0.5, 2.0 / 3.0, 0.75, 0.8]),
        (99, (0, vec![]), [1.0, 1.0, 1.0, 1.0]),
        (0, (11, vec![Byte(0, 3)]), [3.0, 5.0, 6.0, 6.0]),
    ] {
        let constant: (&[i32], &[f32]) = (&[2, 2], &[2.0, 3.0, 4.0, 5.0]);
        let file = single_operator(code, &[2, 2], &[constant], &[2, 2], options);
        near(&run(&file, &[2, 2], &[1.0, 2.0, 3.0, 4.0]).1, &expected);
    }
}

#[test]
fn constants_are_reordered_to_the_order_of_the_other_input() {
    // The output of a convolution has channels first: constants per channel and per pixel must be reordered.
    for (shape, values, expected) in [
        (&[2][..], &[100.0, 200.0][..], [100.0, 201.0, 102.0, 203.0]),
        (&[2, 1], &[100.0, 200.0], [100.0, 101.0, 202.0, 203.0]),
        (&[], &[100.0], [100.0, 101.0, 102.0, 103.0]),
    ] {
        let mut file = File::default();
        let input = file.input(&[1, 1, 2, 2]);
        let weights = file.floats(&[2, 1, 1, 2], &[1.0, 0.0, 0.0, 1.0]);
        let convolved = file.operator(3, &[input, weights], &[1, 1, 2, 2], conv(1, 1, 0));
        let constant = file.floats(shape, values);
        let output = file.operator(0, &[constant, convolved], &[1, 1, 2, 2], (11, vec![]));
        file.outputs = vec![output];
        near(&run(&file, &[1, 1, 2, 2], &count(4)).1, &expected);
    }
}

#[test]
fn unary_operators_compute_their_function() {
    let expected: [(i32, [f32; 2]); 6] = [
        (14, [1.0 / (1.0 + (-0.25f32).exp()), 1.0 / (1.0 + (-9.0f32).exp())]),
        (19, [0.25, 9.0]),
        (21, [0.25, 6.0]),
        (59, [-0.25, -9.0]),
        (75, [0.5, 3.0]),
        (76, [2.0, 1.0 / 3.0]),
    ];
    for (code, expected) in expected {
        near(&run(&single_operator(code, &[2], &[], &[2], (0, vec![])), &[2], &[0.25, 9.0]).1, &expected);
    }
}

/// Returns a file of one operator with constants of integers as further inputs.
fn with_integers(code: i32, shape: &[i32], numbers: &[&[i32]], out: &[i32], options: (u8, Vec<Field>)) -> File {
    let mut file = File::default();
    let mut inputs = vec![file.input(shape)];
    inputs.extend(numbers.iter().map(|numbers| file.integers(numbers)).collect::<Vec<_>>());
    let output = file.operator(code, &inputs, out, options);
    file.outputs = vec![output];
    file
}

#[test]
fn sum_and_mean_reduce_axes() {
    let values = count(6);
    for (code, axis, keeps, out, expected) in [
        (40, 1, 1, &[2, 1][..], &[1.0, 4.0][..]),
        (40, -1, 0, &[2], &[1.0, 4.0]),
        (74, 0, 0, &[3], &[3.0, 5.0, 7.0]),
        (74, 0, 1, &[1, 3], &[3.0, 5.0, 7.0]),
    ] {
        let file = with_integers(code, &[2, 3], &[&[axis]], out, (27, vec![Byte(0, keeps)]));
        let (shape, found) = run(&file, &[2, 3], &values);
        assert_eq!(shape, out.iter().map(|size| *size as usize).collect::<Vec<_>>());
        near(&found, expected);
    }
    let twice = with_integers(40, &[2, 3], &[&[1, -1]], &[2], (27, vec![Byte(0, 0)]));
    near(&run(&twice, &[2, 3], &values).1, &[1.0, 4.0]);
}

#[test]
fn a_transpose_adds_no_node_unless_its_order_is_needed() {
    let file = with_integers(39, &[2, 3], &[&[1, 0]], &[3, 2], (26, vec![]));
    let (shape, values) = run(&file, &[2, 3], &count(6));
    assert_eq!(shape, [3, 2]);
    near(&values, &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    let mut file = File::default();
    let input = file.input(&[2, 3]);
    let order = file.integers(&[1, 0]);
    let turned = file.operator(39, &[input, order], &[3, 2], (26, vec![]));
    let back = file.operator(39, &[turned, order], &[2, 3], (26, vec![]));
    let output = file.operator(19, &[back], &[2, 3], (0, vec![]));
    file.outputs = vec![output];
    let model = convert(&file.write()).unwrap();
    let graph = onnx_rs::parse(&model).unwrap().graph.unwrap();
    assert_eq!(graph.node.iter().map(|node| node.op_type.clone()).collect::<Vec<_>>(), [OpType::Relu]);
}

#[test]
fn a_reshape_works_on_tensors_with_channels_first() {
    let mut file = File::default();
    let input = file.input(&[1, 1, 3, 2]);
    let weights = file.floats(&[2, 1, 1, 2], &[1.0, 0.0, 0.0, 1.0]);
    let convolved = file.operator(3, &[input, weights], &[1, 1, 3, 2], conv(1, 1, 0));
    let sizes = file.integers(&[3, -1]);
    let output = file.operator(22, &[convolved, sizes], &[3, 2], (17, vec![]));
    file.outputs = vec![output];
    let (shape, values) = run(&file, &[1, 1, 3, 2], &count(6));
    assert_eq!(shape, [3, 2]);
    near(&values, &count(6));
    let old = single_operator(22, &[6], &[], &[2, 3], (17, vec![Pair(0, [2, -1])]));
    assert_eq!(run(&old, &[6], &count(6)).0, [2, 3]);
    for (target, out) in [([4, 2], [4, 2]), ([-1, -1], [2, 3]), ([0, 6], [6, 1])] {
        let wrong = single_operator(22, &[6], &[], &out, (17, vec![Pair(0, target)]));
        assert!(convert(&wrong.write()).unwrap_err().to_string().contains("cannot be reshaped to"), "{target:?}");
    }
}

#[test]
fn a_pad_adds_zeros_to_the_right_axes() {
    let mut file = File::default();
    let input = file.input(&[1, 1, 2, 2]);
    let weights = file.floats(&[2, 1, 1, 2], &[1.0, 0.0, 0.0, 1.0]);
    let convolved = file.operator(3, &[input, weights], &[1, 1, 2, 2], conv(1, 1, 0));
    let amounts = file.tensor(
        "amounts",
        INT32,
        &[4, 2],
        [0, 0, 0, 0, 1, 0, 0, 1].iter().flat_map(|n: &i32| n.to_le_bytes()).collect(),
    );
    let output = file.operator(34, &[convolved, amounts], &[1, 1, 3, 3], (22, vec![]));
    file.outputs = vec![output];
    near(&run(&file, &[1, 1, 2, 2], &[1.0, 2.0, 3.0, 4.0]).1, &[0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 3.0, 4.0, 0.0]);
}

#[test]
fn tensors_and_constants_are_concatenated() {
    let mut file = File::default();
    let input = file.input(&[1, 1, 2, 2]);
    let weights = file.floats(&[2, 1, 1, 2], &[1.0, 0.0, 0.0, 1.0]);
    let convolved = file.operator(3, &[input, weights], &[1, 1, 2, 2], conv(1, 1, 0));
    let first = file.floats(&[1, 1, 1, 2], &[8.0, 9.0]);
    let output = file.operator(2, &[first, convolved], &[1, 1, 3, 2], (10, vec![Int(0, -2)]));
    file.outputs = vec![output];
    near(&run(&file, &[1, 1, 2, 2], &count(4)).1, &[8.0, 9.0, 0.0, 1.0, 2.0, 3.0]);
}

#[test]
fn a_strided_slice_cuts_and_drops_axes() {
    let numbers: [&[i32]; 3] = [&[0, 1], &[2, 3], &[1, 1]];
    let masks = |begin, end, single| (32, vec![Int(0, begin), Int(1, end), Int(4, single)]);
    for (options, out, expected) in [
        (masks(0, 0, 0), &[2, 2][..], &[1.0, 2.0, 4.0, 5.0][..]),
        (masks(2, 0, 0), &[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]),
        (masks(0, 3, 2), &[2], &[1.0, 4.0]),
    ] {
        let file = with_integers(45, &[2, 3], &numbers, out, options);
        near(&run(&file, &[2, 3], &count(6)).1, expected);
    }
    let file = with_integers(45, &[2, 3], &[&[0, 0], &[2, 3], &[1, 2]], &[2, 2], masks(0, 0, 0));
    assert!(convert(&file.write()).unwrap_err().to_string().contains("steps of 2"));
}

#[test]
fn weights_of_16_bit_floats_are_read_and_other_types_are_an_error() {
    for (kind, is_known) in [(FLOAT16, true), (INT8, false)] {
        let mut file = File::default();
        let input = file.input(&[2]);
        let data = match kind {
            FLOAT16 => [1.5, -2.0].iter().flat_map(|value| half::f16::from_f32(*value).to_le_bytes()).collect(),
            _ => vec![1, 2],
        };
        let small = file.tensor("small", kind, &[2], data);
        let weights = file.operator(6, &[small], &[2], (0, vec![]));
        let output = file.operator(18, &[input, weights], &[2], (21, vec![]));
        file.outputs = vec![output];
        if is_known {
            near(&run(&file, &[2], &[2.0, 2.0]).1, &[3.0, -4.0]);
        } else {
            let error = convert(&file.write()).unwrap_err().to_string();
            assert!(error.contains("DEQUANTIZE") && error.contains("Other(9)"), "{error}");
        }
    }
}

#[test]
fn the_batch_stays_dynamic_and_outputs_have_the_given_names_and_shapes() {
    let mut file = File::default();
    let input = file.rows(&[1, 1, 1, 2]);
    let weights = file.floats(&[4, 1, 1, 2], &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0]);
    let four = file.operator(3, &[input, weights], &[1, 1, 1, 4], conv(1, 1, 0));
    let two = file.operator(3, &[input, weights], &[1, 1, 1, 4], conv(1, 1, 1));
    file.outputs = vec![four, two];
    let port = |tensor: &str, name: &str, shape: Option<&[usize]>| Port {
        tensor: tensor.to_owned(),
        name: name.to_owned(),
        shape: shape.map(<[usize]>::to_vec),
    };
    let inputs = [port("in0", "image", None)];
    let model = convert_as(&file.write(), &inputs, &[port("computed 0", "points", Some(&[2, 2]))]).unwrap();
    let mut session = session(&model);
    assert_eq!((session.inputs()[0].name(), session.outputs()[0].name()), ("image", "points"));
    assert_eq!(session.outputs().len(), 1);
    let rows = ArrayD::from_shape_vec(IxDyn(&[3, 1, 1, 2]), count(6)).unwrap();
    let outputs = session.run(ort::inputs![TensorRef::from_array_view(rows.view()).unwrap()]).unwrap();
    let points = outputs[0].try_extract_array::<f32>().unwrap();
    assert_eq!(points.shape(), [3, 2, 2]);
    near(&points.iter().copied().collect::<Vec<_>>()[4..8], &[2.0, 3.0, 5.0, 0.0]);
    for (outputs, why) in [
        (port("computed 9", "points", None), "no input or output"),
        (port("computed 0", "points", Some(&[3])), "cannot be reshaped"),
        (port("computed 0", "image", None), "not a valid name"),
        (port("computed 0", "#1", None), "not a valid name"),
    ] {
        let error = convert_as(&file.write(), &inputs, &[outputs]).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    assert!(convert_as(&file.write(), &[], &[]).unwrap_err().to_string().contains("is not listed"));
}

#[test]
fn unsupported_parts_of_a_file_are_named() {
    let unsupported = single_operator(97, &[1, 2, 2, 1], &[], &[1, 4, 4, 1], (0, vec![]));
    let error = convert(&unsupported.write()).unwrap_err().to_string();
    assert_eq!(error, "operator 0 of the file, RESIZE_NEAREST_NEIGHBOR: the converter does not support this operator");
    let weights: (&[i32], &[f32]) = (&[1, 1, 1, 1], &[1.0]);
    for (options, why) in [
        (conv(1, 1, 4), "TANH"),
        (conv(7, 1, 0), "its padding 7"),
        (conv(1, 0, 0), "in steps of 0"),
        ((2, vec![]), "options of the kind 2, not 1"),
    ] {
        let error =
            convert(&single_operator(3, &[1, 1, 1, 1], &[weights], &[1, 1, 1, 1], options).write()).unwrap_err();
        assert!(error.to_string().contains("CONV_2D") && error.to_string().contains(why), "{error}");
    }
    let wrong = single_operator(19, &[2], &[], &[3], (0, vec![]));
    assert!(convert(&wrong.write()).unwrap_err().to_string().contains("of [3], not floats of [2]"));
}

#[test]
fn the_same_file_gives_the_same_bytes() {
    let file = single_operator(3, &[1, 4, 4, 2], &[(&[2, 3, 3, 2], &count(36))], &[1, 2, 2, 2], conv(0, 2, 1)).write();
    assert_eq!(convert(&file).unwrap(), convert(&file).unwrap());
}

#[test]
fn invalid_files_are_errors_and_never_a_panic() {
    let whole = single_operator(
        3,
        &[1, 4, 4, 2],
        &[(&[2, 3, 3, 2], &count(36)), (&[2], &count(2))],
        &[1, 2, 2, 2],
        conv(0, 2, 1),
    )
    .write();
    for length in 0..whole.len() {
        assert!(convert(&whole[..length]).is_err(), "{length} bytes");
    }
    for place in 0..whole.len() {
        for value in [0x00, 0x01, 0x7f, 0x80, 0xff] {
            let mut broken = whole.clone();
            broken[place] = value;
            let _ = convert(&broken);
        }
    }
    assert!(convert(b"").is_err() && convert(&[0; 64]).is_err());
}
