//! Rebuilds Silero VAD as one graph that takes many consecutive windows in a call.
//!
//! The published graph takes one window a call, and branches on the sample rate and on shapes of tensors. In this graph
//! consecutive windows are the rows of a batch for all layers without memory, and one LSTM runs over the sequence of
//! their results. The operations and their order are the same, so the probabilities are the same. It takes half the
//! time.

use std::borrow::Cow;

use onnx_rs::ast::{
    Attribute, AttributeType, DataType, Dimension, Graph, Model, Node, OpType, OperatorSetId, TensorProto, TensorShape,
    TensorShapeDimension, TensorTypeProto, TypeProto, TypeValue, ValueInfo,
};

/// Samples in a window.
pub(super) const WINDOW: usize = 512;
/// Samples before the window that are part of the model's input.
pub(super) const CONTEXT: usize = 64;
/// Shape of the model's recurrent state.
pub(super) const MEMORY: [usize; 3] = [2, 1, 128];

/// Strides of the four convolutions after the spectrum.
const STRIDES: [i64; 4] = [1, 2, 2, 1];
/// Frequencies of the spectrum.
const BINS: i64 = 129;
/// Samples of one spectrum.
const FRAME: i64 = 256;
/// Samples from one spectrum to the next.
const HOP: i64 = 128;
/// Hidden size of the LSTM.
const UNITS: i64 = 128;

/// Builds the graph from the weights for 16 kHz in the published file. Its inputs are `input` [windows, 576] and
/// `state`, its outputs `output` [windows, 1] and `stateN`. Returns `None` if the weights are not found.
pub(super) fn unrolled(file: &[u8]) -> Option<Vec<u8>> {
    let published = onnx_rs::parse(file).ok()?;
    let choice = published.graph.as_ref()?.node.iter().find(|node| node.op_type == OpType::If)?;
    let weights = choice.attribute.iter().find(|attribute| attribute.name == "then_branch")?.g.as_deref()?;

    let mut graph = GraphParts::default();
    graph.tensor("basis", weight(weights, "stft.forward_basis_buffer")?);
    for (layer, names) in LAYERS.iter().enumerate() {
        for (part, name) in ["weight", "bias"].into_iter().zip(names) {
            graph.tensor(name, weight(weights, &format!("encoder.{layer}.reparam_conv.{part}"))?);
        }
    }
    let [input, memory] = ["ih", "hh"].map(|part| {
        let (matrix, bias) = (format!("decoder.rnn.weight_{part}"), format!("decoder.rnn.bias_{part}"));
        Some((gates(&weight(weights, &matrix)?)?, gates(&weight(weights, &bias)?)?))
    });
    let ((input, input_bias), (memory, memory_bias)) = (input?, memory?);
    let biases = [input_bias, memory_bias].concat();
    for (name, dims, values) in [
        ("by_input", vec![1, 4 * UNITS, UNITS], input),
        ("by_memory", vec![1, 4 * UNITS, UNITS], memory),
        ("biases", vec![1, 8 * UNITS], biases),
    ] {
        graph.constants.push(TensorProto::from_f32(name, dims, values));
    }
    graph.tensor("last_weight", weight(weights, "decoder.decoder.2.weight")?);
    graph.tensor("last_bias", weight(weights, "decoder.decoder.2.bias")?);
    for (name, values) in [
        ("end", vec![0, 0, 0, 64]),
        ("zero", vec![0]),
        ("first", vec![1]),
        ("second", vec![2]),
        ("halves", vec![BINS, BINS]),
        ("in_sequence", vec![-1, 1, UNITS]),
        ("in_rows", vec![-1, UNITS, 1]),
        ("flat", vec![-1, 1]),
    ] {
        let dims = vec![i64::try_from(values.len()).ok()?];
        graph.constants.push(TensorProto::from_i64(name, dims, values));
    }

    graph.node(OpType::Pad, vec!["input", "end"], vec!["padded"], vec![text("mode", b"reflect")]);
    graph.node(OpType::Unsqueeze, vec!["padded", "first"], vec!["samples"], vec![]);
    let frames = vec![ints("kernel_shape", vec![FRAME]), ints("strides", vec![HOP])];
    graph.node(OpType::Conv, vec!["samples", "basis"], vec!["spectrum"], frames);
    graph.node(OpType::Split, vec!["spectrum", "halves"], vec!["real", "imaginary"], vec![int("axis", 1)]);
    graph.node(OpType::Mul, vec!["real", "real"], vec!["real2"], vec![]);
    graph.node(OpType::Mul, vec!["imaginary", "imaginary"], vec!["imaginary2"], vec![]);
    graph.node(OpType::Add, vec!["real2", "imaginary2"], vec!["power"], vec![]);
    graph.node(OpType::Sqrt, vec!["power"], vec!["magnitude"], vec![]);
    let mut last = "magnitude";
    for (([weight, bias], [sum, relu]), stride) in LAYERS.into_iter().zip(RESULTS).zip(STRIDES) {
        let form = vec![ints("kernel_shape", vec![3]), ints("pads", vec![1, 1]), ints("strides", vec![stride])];
        graph.node(OpType::Conv, vec![last, weight, bias], vec![sum], form);
        graph.node(OpType::Relu, vec![sum], vec![relu], vec![]);
        last = relu;
    }
    graph.node(OpType::Reshape, vec![last, "in_sequence"], vec!["features"], vec![]);
    graph.node(OpType::Slice, vec!["state", "zero", "first", "zero"], vec!["hidden"], vec![]);
    graph.node(OpType::Slice, vec!["state", "first", "second", "zero"], vec!["cell"], vec![]);
    let inputs = vec!["features", "by_input", "by_memory", "biases", "", "hidden", "cell"];
    let outputs = vec!["all_hidden", "last_hidden", "last_cell"];
    graph.node(OpType::LSTM, inputs, outputs, vec![int("hidden_size", UNITS)]);
    graph.node(OpType::Concat, vec!["last_hidden", "last_cell"], vec!["stateN"], vec![int("axis", 0)]);
    graph.node(OpType::Relu, vec!["all_hidden"], vec!["activated"], vec![]);
    graph.node(OpType::Reshape, vec!["activated", "in_rows"], vec!["rows"], vec![]);
    graph.node(
        OpType::Conv,
        vec!["rows", "last_weight", "last_bias"],
        vec!["logit"],
        vec![ints("kernel_shape", vec![1])],
    );
    graph.node(OpType::Sigmoid, vec!["logit"], vec!["speech"], vec![]);
    graph.node(OpType::Reshape, vec!["speech", "flat"], vec!["output"], vec![]);

    let length = i64::try_from(CONTEXT + WINDOW).ok()?;
    let memory = MEMORY.map(|size| Dimension::Value(size as i64));
    let input = port("input", vec![Dimension::Param("windows"), Dimension::Value(length)]);
    let output = port("output", vec![Dimension::Param("windows"), Dimension::Value(1)]);
    let graph = Graph {
        name: "silero_vad",
        node: graph.nodes,
        initializer: graph.constants,
        input: vec![input, port("state", memory.to_vec())],
        output: vec![output, port("stateN", memory.to_vec())],
        ..Graph::default()
    };
    let opset_import = vec![OperatorSetId { domain: "", version: 16 }];
    Some(onnx_rs::encode(&Model { ir_version: 8, opset_import, graph: Some(graph), ..Model::default() }))
}

/// Names of the weights and biases of the convolutions.
const LAYERS: [[&str; 2]; 4] = [["w0", "b0"], ["w1", "b1"], ["w2", "b2"], ["w3", "b3"]];
/// Names of the results of the convolutions, before and after the ReLU.
const RESULTS: [[&str; 2]; 4] = [["s0", "r0"], ["s1", "r1"], ["s2", "r2"], ["s3", "r3"]];

/// Nodes and constants of the graph.
#[derive(Default)]
struct GraphParts<'a> {
    nodes: Vec<Node<'a>>,
    constants: Vec<TensorProto<'a>>,
}

impl<'a> GraphParts<'a> {
    fn tensor(&mut self, name: &'a str, weight: Weight<'_>) {
        self.constants.push(TensorProto::from_f32(name, weight.dims, weight.values.into_owned()));
    }

    fn node(&mut self, op_type: OpType<'a>, input: Vec<&'a str>, output: Vec<&'a str>, attribute: Vec<Attribute<'a>>) {
        self.nodes.push(Node { op_type, input, output, attribute, ..Node::default() });
    }
}

struct Weight<'a> {
    dims: Vec<i64>,
    values: Cow<'a, [f32]>,
}

/// Finds a constant of the published graph by the end of its name.
fn weight<'a>(graph: &'a Graph<'_>, name: &str) -> Option<Weight<'a>> {
    let is_it = |node: &&Node<'_>| {
        let output = node.output.first().and_then(|output| output.strip_suffix(name));
        node.op_type == OpType::Constant && output.is_some_and(|before| before.ends_with("__"))
    };
    let tensor = graph.node.iter().find(is_it)?.attribute.first()?.t.as_ref()?;
    Some(Weight { dims: tensor.dims().to_vec(), values: tensor.as_f32()? })
}

/// Reorders the gates of an LSTM from PyTorch's order (input, forget, cell, output) to that of ONNX (input, output,
/// forget, cell).
fn gates(weight: &Weight<'_>) -> Option<Vec<f32>> {
    let quarter = weight.values.len() / 4;
    let mut gates = weight.values.chunks_exact(quarter.max(1));
    let [input, forget, cell, output] = std::array::from_fn(|_| gates.next());
    Some([input?, output?, forget?, cell?].concat())
}

fn int(name: &str, i: i64) -> Attribute<'_> {
    Attribute { name, r#type: AttributeType::Int, i, ..Attribute::default() }
}

fn ints(name: &str, ints: Vec<i64>) -> Attribute<'_> {
    Attribute { name, r#type: AttributeType::Ints, ints, ..Attribute::default() }
}

fn text<'a>(name: &'a str, s: &'a [u8]) -> Attribute<'a> {
    Attribute { name, r#type: AttributeType::String, s, ..Attribute::default() }
}

fn port<'a>(name: &'a str, dims: Vec<Dimension<'a>>) -> ValueInfo<'a> {
    let dim = dims.into_iter().map(|value| TensorShapeDimension { value, ..TensorShapeDimension::default() }).collect();
    let tensor = TensorTypeProto { elem_type: DataType::Float, shape: Some(TensorShape { dim }) };
    let r#type = Some(TypeProto { value: Some(TypeValue::Tensor(tensor)), ..TypeProto::default() });
    ValueInfo { name, r#type, ..ValueInfo::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_put_in_the_order_of_onnx() {
        let values = Cow::Owned((0..8).map(|n| n as f32).collect());
        let ordered = gates(&Weight { dims: vec![4, 2], values });
        assert_eq!(ordered, Some(vec![0.0, 1.0, 6.0, 7.0, 2.0, 3.0, 4.0, 5.0]));
    }

    #[test]
    fn another_file_gives_no_graph() {
        assert_eq!(unrolled(b"no model"), None);
        let graph = Graph { node: vec![Node { op_type: OpType::If, ..Node::default() }], ..Graph::default() };
        assert_eq!(unrolled(&onnx_rs::encode(&Model { graph: Some(graph), ..Model::default() })), None);
    }
}
