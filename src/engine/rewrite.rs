//! Graphs said in the operators that ONNX Runtime is fast at.
//!
//! On the CPU it keeps a network's tensors in blocks of channels from one convolution to the next, but has no `PRelu` and no
//! `Pad` in that layout. At each `PRelu` it turns the tensor back, computes a value at a time, and turns it in again: the network
//! of face landmarks has 69 of them, and spends two thirds of its time there. After a `Pad` it stays outside for as long as
//! something is added to what was padded.

use onnx_rs::ast::{Attribute, AttributeType, DataType, Graph, Model, Node, OpType, TensorProto};

/// Blocks hold this many channels at most; networks whose channels do not fill them leave that layout.
const BLOCK: usize = 16;
/// More channels than any layer of a network for faces has.
const MOST_CHANNELS: usize = 1 << 12;

/// The same model for the CPU; `None` where there is nothing to say in another way.
pub(super) fn for_cpu(model: &[u8]) -> Option<Vec<u8>> {
    let mut model = onnx_rs::parse(model).ok()?;
    only_what_is_fed(&mut model);
    let graph = model.graph.as_mut()?;
    let mut stand_ins: Vec<Option<StandIn>> =
        graph.node.iter().enumerate().map(|(n, node)| StandIn::of(n, node, graph)).collect();
    for number in 0..graph.node.len() {
        // A convolution that has its other weights already keeps them.
        let parts =
            both_signs(number, graph).filter(|parts| parts.iter().all(|(place, _)| stand_ins[*place].is_none()));
        for (place, stand_in) in parts.into_iter().flatten() {
            stand_ins[place] = Some(stand_in);
        }
    }
    if stand_ins.iter().all(Option::is_none) {
        return None;
    }
    let mut nodes = Vec::with_capacity(graph.node.len() + 3 * stand_ins.len());
    for (node, stand_in) in std::mem::take(&mut graph.node).into_iter().zip(&stand_ins) {
        match stand_in {
            Some(StandIn::PRelu(parts)) => parts.put(&node, &mut nodes, &mut graph.initializer),
            Some(StandIn::Pad(pad)) => pad.put(&node, &mut nodes, &mut graph.initializer),
            Some(StandIn::Conv(conv)) => conv.put(node, &mut nodes, &mut graph.initializer),
            Some(StandIn::Relu) => nodes.push(plain(OpType::Relu, vec![node.input[0]], node.output[0])),
            None => nodes.push(node),
        }
    }
    // The runtime warns of each constant that nothing uses.
    graph.initializer.retain(|constant| nodes.iter().any(|node| node.input.contains(&constant.name())));
    graph.node = nodes;
    Some(onnx_rs::encode(&model))
}

/// Old files list constants among the inputs as well. One that goes would have to be fed from then on.
pub(super) fn only_what_is_fed(model: &mut Model<'_>) {
    const CONSTANTS_STAND_ALONE: i64 = 4;
    model.ir_version = model.ir_version.max(CONSTANTS_STAND_ALONE);
    if let Some(graph) = &mut model.graph {
        let (inputs, constants) = (&mut graph.input, &graph.initializer);
        inputs.retain(|input| constants.iter().all(|constant| constant.name() != input.name));
    }
}

/// What is put in the place of a node.
enum StandIn {
    PRelu(Parts),
    Pad(Widening),
    Conv(Weights),
    /// `Relu` in the place of `PRelu`.
    Relu,
}

impl StandIn {
    fn of(number: usize, node: &Node<'_>, graph: &Graph<'_>) -> Option<Self> {
        let prelu = Parts::of(number, node, graph).map(Self::PRelu);
        prelu.or_else(|| Widening::of(number, node, graph).map(Self::Pad))
    }
}

/// Channels of zeros behind those that are there: a convolution of one point that hands each channel on.
struct Widening {
    from: usize,
    to: usize,
    name: String,
}

impl Widening {
    fn of(number: usize, node: &Node<'_>, graph: &Graph<'_>) -> Option<Self> {
        let ([from, amounts], [_], OpType::Pad, "") = (&node.input[..], &node.output[..], &node.op_type, node.domain)
        else {
            return None;
        };
        // Zeros are what a `Pad` without a mode and a value puts in.
        if node.attribute.iter().any(|attribute| attribute.name == "mode" && attribute.s != b"constant") {
            return None;
        }
        let amounts = graph.get_initializer(amounts)?.as_i64()?.into_owned();
        let [0, 0, 0, 0, 0, more, 0, 0] = amounts[..] else { return None };
        let (from, more) = (channels(graph, from)?, usize::try_from(more).ok()?);
        let fills = from.is_multiple_of(BLOCK) && more.is_multiple_of(BLOCK);
        let to = from.checked_add(more).filter(|to| fills && *to <= MOST_CHANNELS)?;
        Some(Self { from, to, name: format!("pad {number}") })
    }

    fn put<'a>(&'a self, node: &Node<'a>, nodes: &mut Vec<Node<'a>>, constants: &mut Vec<TensorProto<'a>>) {
        let mut values = vec![0.0; self.to * self.from];
        for channel in 0..self.from {
            values[channel * self.from + channel] = 1.0;
        }
        let [from, to] = [self.from, self.to].map(|count| i64::try_from(count).unwrap_or(i64::MAX));
        constants.push(TensorProto::from_f32(&self.name, vec![to, from, 1, 1], values));
        let kernel =
            Attribute { name: "kernel_shape", r#type: AttributeType::Ints, ints: vec![1, 1], ..Attribute::default() };
        let conv = plain(OpType::Conv, vec![node.input[0], &self.name], node.output[0]);
        nodes.push(Node { attribute: vec![kernel], ..conv });
    }
}

/// How many channels a tensor has, told by the operators that it comes from.
fn channels(graph: &Graph<'_>, tensor: &str) -> Option<usize> {
    let mut tensor = tensor;
    // In a graph with a loop, the way back would never end.
    for _ in 0..graph.node.len() {
        let node = graph.node.iter().find(|node| node.output.contains(&tensor))?;
        let dims = |place: usize| Some(graph.get_initializer(node.input.get(place)?)?.dims().to_vec());
        match node.op_type {
            OpType::Conv => return usize::try_from(*dims(1)?.first()?).ok(),
            OpType::PRelu => return usize::try_from(*dims(1)?.get(1)?).ok(),
            OpType::MaxPool | OpType::Relu => tensor = node.input.first()?,
            _ => return None,
        }
    }
    None
}

/// What stands in for one `PRelu` whose channels fill blocks: its slopes, and names for what comes between.
///
/// For a slope a, `PRelu(x) = x + (1 - a) max(-x, 0)`, and scaling a channel is a depthwise convolution of one point, which
/// takes the maximum and the sum along.
struct Parts {
    slopes: Vec<f32>,
    names: [String; 5],
}

impl Parts {
    fn of(number: usize, node: &Node<'_>, graph: &Graph<'_>) -> Option<Self> {
        let slopes = slopes(node, graph)?;
        let names = ["minus", "mirrored", "below", "scale", "scaled"].map(|part| format!("prelu {number} {part}"));
        slopes.len().is_multiple_of(BLOCK).then_some(Self { slopes, names })
    }

    fn put<'a>(&'a self, node: &Node<'a>, nodes: &mut Vec<Node<'a>>, constants: &mut Vec<TensorProto<'a>>) {
        let [minus, mirrored, below, scale, scaled] = self.names.each_ref().map(String::as_str);
        let (from, to) = (node.input[0], node.output[0]);
        let count = i64::try_from(self.slopes.len()).unwrap_or(i64::MAX);
        let one_point = vec![count, 1, 1, 1];
        constants.push(TensorProto::from_f32(minus, one_point.clone(), vec![-1.0; self.slopes.len()]));
        constants.push(TensorProto::from_f32(scale, one_point, self.slopes.iter().map(|slope| 1.0 - slope).collect()));
        let by_channel = |from, by, to| {
            let ints = |name, ints| Attribute { name, r#type: AttributeType::Ints, ints, ..Attribute::default() };
            let group = Attribute { name: "group", r#type: AttributeType::Int, i: count, ..Attribute::default() };
            let conv = plain(OpType::Conv, vec![from, by], to);
            Node { attribute: vec![group, ints("kernel_shape", vec![1, 1])], ..conv }
        };
        nodes.push(by_channel(from, minus, mirrored));
        nodes.push(plain(OpType::Relu, vec![mirrored], below));
        nodes.push(by_channel(below, scale, scaled));
        nodes.push(plain(OpType::Add, vec![scaled, from], to));
    }
}

/// The slopes of a `PRelu` that has one a channel of [batch, channels, height, width]; with fewer sizes they would not tell which
/// of its input's they are.
fn slopes(node: &Node<'_>, graph: &Graph<'_>) -> Option<Vec<f32>> {
    let ([_, slopes], [_], OpType::PRelu, "") = (&node.input[..], &node.output[..], &node.op_type, node.domain) else {
        return None;
    };
    let slopes = graph.get_initializer(slopes).filter(|slopes| slopes.data_type() == DataType::Float)?;
    let [1, channels, 1, 1] = slopes.dims() else { return None };
    let channels = usize::try_from(*channels).ok()?;
    Some(slopes.as_f32()?.into_owned()).filter(|slopes| slopes.len() == channels)
}

/// What stands in for a `PRelu` whose channels fill half a block, and for the convolutions around it: both signs of each channel,
/// which cost no more than one.
///
/// For a slope a, `PRelu(x) = max(x, 0) - a max(-x, 0)`. Where a convolution gives x, a depthwise one reads it, and another one
/// what comes of that, the first can give -x as well, the slopes go into the second, and the third adds up.
fn both_signs(number: usize, graph: &Graph<'_>) -> Option<[(usize, StandIn); 4]> {
    let prelu = &graph.node[number];
    let slopes = slopes(prelu, graph)?;
    let channels = slopes.len();
    if channels % BLOCK != BLOCK / 2 || only_reader(graph, prelu.input[0]) != Some(number) {
        return None;
    }
    let before = graph.node.iter().position(|node| node.output.contains(&prelu.input[0]))?;
    let depthwise = only_reader(graph, prelu.output[0])?;
    let behind = only_reader(graph, graph.node[depthwise].output.first()?)?;
    let mut first = Weights::of(before, 1, graph)?;
    let mut second = Weights::of(depthwise, channels, graph)?;
    let mut third = Weights::of(behind, 1, graph)?;
    if first.dims[0] != channels || second.dims[..2] != [channels, 1] || third.dims[1] != channels {
        return None;
    }
    let minus = |values: &[f32]| values.iter().map(|value| -value).collect::<Vec<_>>();
    first.weights.extend(minus(&first.weights));
    if let Some(bias) = &mut first.bias {
        bias.extend(minus(bias));
    }
    let points = second.weights.len() / channels;
    let below: Vec<f32> = second.weights.iter().enumerate().map(|(n, weight)| -slopes[n / points] * weight).collect();
    second.weights.extend(below);
    if let Some(bias) = &mut second.bias {
        bias.resize(2 * channels, 0.0);
    }
    let inputs = third.weights.len() / third.dims[0];
    third.weights = third.weights.chunks(inputs).flat_map(|to_one| [to_one, to_one].concat()).collect();
    (first.dims[0], second.dims[0], third.dims[1]) = (2 * channels, 2 * channels, 2 * channels);
    second.groups = 2 * channels;
    let [first, second, third] = [first, second, third].map(StandIn::Conv);
    Some([(before, first), (number, StandIn::Relu), (depthwise, second), (behind, third)])
}

/// The node that alone reads a tensor, unless it leaves the graph as well.
fn only_reader(graph: &Graph<'_>, tensor: &str) -> Option<usize> {
    let mut readers = graph.node.iter().enumerate().filter(|(_, node)| node.input.contains(&tensor));
    let leaves = graph.output.iter().any(|output| output.name == tensor);
    let (only, None, false) = (readers.next()?, readers.next(), leaves) else { return None };
    Some(only.0)
}

/// Other weights for a convolution.
struct Weights {
    dims: Vec<usize>,
    weights: Vec<f32>,
    bias: Option<Vec<f32>>,
    groups: usize,
    names: [String; 2],
}

impl Weights {
    /// Those that a convolution of so many groups has.
    fn of(number: usize, groups: usize, graph: &Graph<'_>) -> Option<Self> {
        let node = &graph.node[number];
        let told = node.attribute.iter().find(|attribute| attribute.name == "group").map_or(1, |group| group.i);
        let ([_, weights, bias @ ..], [_], OpType::Conv, "") =
            (&node.input[..], &node.output[..], &node.op_type, node.domain)
        else {
            return None;
        };
        let constant = |name: &str| Some(graph.get_initializer(name)?.as_f32()?.into_owned());
        let dims = graph.get_initializer(weights)?.dims().iter().map(|size| usize::try_from(*size).ok());
        let dims: Vec<usize> = dims.collect::<Option<_>>()?;
        let weights = constant(weights)?;
        let bias = match bias {
            [] => None,
            [bias] => Some(constant(bias)?),
            _ => return None,
        };
        let numbers = dims.iter().try_fold(1, |all: usize, size| all.checked_mul(*size));
        let fits = dims.len() == 4
            && !weights.is_empty()
            && numbers == Some(weights.len())
            && bias.as_ref().is_none_or(|bias| bias.len() == dims[0])
            && usize::try_from(told) == Ok(groups);
        let names = ["weights", "bias"].map(|part| format!("conv {number} {part}"));
        fits.then_some(Self { dims, weights, bias, groups, names })
    }

    fn put<'a>(&'a self, mut node: Node<'a>, nodes: &mut Vec<Node<'a>>, constants: &mut Vec<TensorProto<'a>>) {
        let size = |size: &usize| i64::try_from(*size).unwrap_or(i64::MAX);
        let [weights, bias] = self.names.each_ref().map(String::as_str);
        constants.push(TensorProto::from_f32(weights, self.dims.iter().map(size).collect(), self.weights.clone()));
        node.input[1] = weights;
        if let Some(values) = &self.bias {
            constants.push(TensorProto::from_f32(bias, vec![size(&values.len())], values.clone()));
            node.input[2] = bias;
        }
        for attribute in node.attribute.iter_mut().filter(|attribute| attribute.name == "group") {
            attribute.i = size(&self.groups);
        }
        nodes.push(node);
    }
}

fn plain<'a>(op_type: OpType<'a>, input: Vec<&'a str>, output: &'a str) -> Node<'a> {
    Node { op_type, input, output: vec![output], ..Node::default() }
}

#[cfg(test)]
mod tests {
    use onnx_rs::ast::{OperatorSetId, StringStringEntry};

    use super::*;

    fn model<'a>(nodes: Vec<Node<'a>>, slopes: TensorProto<'a>) -> Vec<u8> {
        let graph = Graph { node: nodes, name: "graph", initializer: vec![slopes], ..Graph::default() };
        let opset_import = vec![OperatorSetId { domain: "", version: 13 }];
        let metadata_props = vec![StringStringEntry { key: "version", value: "7" }];
        onnx_rs::encode(&Model { ir_version: 8, opset_import, metadata_props, graph: Some(graph), ..Model::default() })
    }

    #[test]
    fn each_prelu_gives_way_and_the_rest_stays() {
        let nodes = vec![
            plain(OpType::Sigmoid, vec!["x"], "a"),
            plain(OpType::PRelu, vec!["a", "slopes"], "b"),
            plain(OpType::PRelu, vec!["b", "slopes"], "y"),
        ];
        let slopes =
            |channels: i64| TensorProto::from_f32("slopes", vec![1, channels, 1, 1], vec![0.5; channels as usize]);
        let rewritten = for_cpu(&model(nodes.clone(), slopes(32))).unwrap();
        let rewritten = onnx_rs::parse(&rewritten).unwrap();
        let graph = rewritten.graph.unwrap();
        assert_eq!(graph.node.len(), 1 + 2 * 4);
        assert!(graph.node.iter().all(|node| node.op_type != OpType::PRelu));
        assert_eq!(graph.node.iter().filter(|node| node.output == ["b"] || node.output == ["y"]).count(), 2);
        assert!(graph.initializer.iter().all(|constant| constant.name() != "slopes"), "nothing uses them any more");
        assert_eq!(rewritten.metadata_props[0].value, "7");
        for channels in [3, 8] {
            assert_eq!(for_cpu(&model(nodes.clone(), slopes(channels))), None, "{channels} fill no blocks");
        }
    }

    #[test]
    fn graphs_that_cannot_be_are_left_as_they_are() {
        let many = |name, dims: &[i64]| TensorProto::from_f32(name, dims.to_vec(), vec![0.5; 16]);
        let padded = |before: Vec<Node<'static>>, channels: i64, more: i64| {
            let amounts = TensorProto::from_i64("amounts", vec![8], vec![0, 0, 0, 0, 0, more, 0, 0]);
            let nodes = [before, vec![plain(OpType::Pad, vec!["x", "amounts"], "y")]].concat();
            let initializer = vec![amounts, many("w", &[channels, 1, 1, 1])];
            let graph = Graph { node: nodes, name: "graph", initializer, ..Graph::default() };
            onnx_rs::encode(&Model { graph: Some(graph), ..Model::default() })
        };
        let conv = || vec![plain(OpType::Conv, vec!["a", "w"], "x")];
        assert!(for_cpu(&padded(conv(), 16, 16)).is_some());
        // Found by fuzzing: a matrix of channels by channels was to be made.
        assert_eq!(for_cpu(&padded(conv(), 16, 67_108_880)), None, "more channels than a layer has");
        assert_eq!(for_cpu(&padded(conv(), 16, i64::MAX - 15)), None, "more channels than there can be");
        assert_eq!(for_cpu(&padded(conv(), i64::MAX - 15, i64::MAX - 15)), None);
        assert_eq!(for_cpu(&padded(vec![plain(OpType::Relu, vec!["x"], "x")], 16, 16)), None, "a loop");
        let graph = Graph {
            node: vec![
                plain(OpType::Conv, vec!["a", "wide"], "b"),
                plain(OpType::PRelu, vec!["b", "slopes"], "c"),
                plain(OpType::Conv, vec!["c", "wide"], "d"),
                plain(OpType::Conv, vec!["d", "wide"], "y"),
            ],
            initializer: vec![
                many("wide", &[1 << 40, 1 << 40, 1 << 40, 1]),
                TensorProto::from_f32("slopes", vec![1, 8, 1, 1], vec![0.5; 8]),
            ],
            ..Graph::default()
        };
        let model = onnx_rs::encode(&Model { graph: Some(graph), ..Model::default() });
        assert_eq!(for_cpu(&model), None, "a product beyond 64 bits");
    }

    /// A convolution to eight channels, a `PRelu`, a depthwise convolution and one that reads all of it; `also` reads as well.
    fn bottleneck(also: &str, depthwise: &str) -> Vec<u8> {
        let constant = |name, dims: &[i64]| {
            let values = (0..dims.iter().product::<i64>()).map(|n| n as f32 + 1.0).collect();
            TensorProto::from_f32(name, dims.to_vec(), values)
        };
        let group = Attribute { name: "group", r#type: AttributeType::Int, i: 8, ..Attribute::default() };
        let by_channel = plain(OpType::Conv, vec!["c", "w2", "b2"], "d");
        let graph = Graph {
            node: vec![
                plain(OpType::Conv, vec!["a", "w1", "b1"], "b"),
                plain(OpType::PRelu, vec!["b", "slopes"], "c"),
                Node { attribute: vec![Attribute { name: depthwise, ..group }], ..by_channel },
                plain(OpType::Conv, vec!["d", "w3"], "e"),
                plain(OpType::Add, vec!["e", also], "y"),
            ],
            initializer: vec![
                constant("w1", &[8, 2, 1, 1]),
                constant("b1", &[8]),
                constant("slopes", &[1, 8, 1, 1]),
                constant("w2", &[8, 1, 1, 1]),
                constant("b2", &[8]),
                constant("w3", &[3, 8, 1, 1]),
            ],
            ..Graph::default()
        };
        onnx_rs::encode(&Model { graph: Some(graph), ..Model::default() })
    }

    #[test]
    fn half_a_block_of_channels_is_filled_with_their_other_sign() {
        let rewritten = for_cpu(&bottleneck("e", "group")).unwrap();
        let graph = onnx_rs::parse(&rewritten).unwrap().graph.unwrap();
        let kinds = graph.node.iter().map(|node| node.op_type.clone());
        assert_eq!(kinds.collect::<Vec<_>>(), [OpType::Conv, OpType::Relu, OpType::Conv, OpType::Conv, OpType::Add]);
        assert_eq!(graph.node[2].attribute[0].i, 16);
        let constant = |node: usize, input: usize| {
            let tensor = graph.get_initializer(graph.node[node].input[input]).unwrap();
            (tensor.dims().to_vec(), tensor.as_f32().unwrap().into_owned())
        };
        let signs = |n: usize| [n as f32, -(n as f32)];
        let (dims, weights) = constant(0, 1);
        assert_eq!((dims, [weights[3], weights[16 + 3]]), (vec![16, 2, 1, 1], signs(4)));
        assert_eq!([constant(0, 2).1[3], constant(0, 2).1[8 + 3]], signs(4));
        let (dims, weights) = constant(2, 1);
        assert_eq!((dims, [weights[3], weights[8 + 3]]), (vec![16, 1, 1, 1], [4.0, -16.0]), "slopes of 4");
        assert_eq!([constant(2, 2).1[3], constant(2, 2).1[8 + 3]], [4.0, 0.0]);
        let (dims, weights) = constant(3, 1);
        assert_eq!(
            (dims, [weights[8 + 3], weights[16 + 3]]),
            (vec![3, 16, 1, 1], [4.0, 12.0]),
            "a row of eight, twice"
        );
        for read_elsewhere in ["b", "c", "d"] {
            assert_eq!(for_cpu(&bottleneck(read_elsewhere, "group")), None, "{read_elsewhere}");
        }
        assert_eq!(for_cpu(&bottleneck("e", "other")), None, "one group");
    }

    #[test]
    fn a_convolution_between_two_of_them_is_said_anew_once() {
        let constant = |name, dims: &[i64]| {
            TensorProto::from_f32(name, dims.to_vec(), vec![0.5; dims.iter().product::<i64>() as usize])
        };
        let group = Attribute { name: "group", r#type: AttributeType::Int, i: 8, ..Attribute::default() };
        let by_channel = |from, to| Node { attribute: vec![group.clone()], ..plain(OpType::Conv, vec![from, "w"], to) };
        let graph = Graph {
            node: vec![
                plain(OpType::Conv, vec!["a", "v"], "b"),
                plain(OpType::PRelu, vec!["b", "slopes"], "c"),
                by_channel("c", "d"),
                plain(OpType::Conv, vec!["d", "v"], "e"),
                plain(OpType::PRelu, vec!["e", "slopes"], "f"),
                by_channel("f", "g"),
                plain(OpType::Conv, vec!["g", "v"], "y"),
            ],
            initializer: vec![
                constant("v", &[8, 8, 1, 1]),
                constant("w", &[8, 1, 1, 1]),
                constant("slopes", &[1, 8, 1, 1]),
            ],
            ..Graph::default()
        };
        let rewritten = for_cpu(&onnx_rs::encode(&Model { graph: Some(graph), ..Model::default() })).unwrap();
        let graph = onnx_rs::parse(&rewritten).unwrap().graph.unwrap();
        let outputs = graph.node.iter().filter(|node| node.op_type == OpType::Conv);
        let sizes = outputs.map(|node| graph.get_initializer(node.input[1]).unwrap().dims()[..2].to_vec());
        assert_eq!(sizes.collect::<Vec<_>>(), [[16, 8], [16, 1], [8, 16], [8, 1], [8, 8]]);
        assert_eq!(graph.node[4].op_type, OpType::PRelu);
    }

    #[test]
    fn the_landmark_network_keeps_neither_a_prelu_nor_a_pad() {
        let published = std::fs::read(crate::test_files::model("face_landmarks.onnx")).unwrap();
        let count = |model: &[u8], kind: &OpType<'_>| {
            let graph = onnx_rs::parse(model).unwrap().graph.unwrap();
            graph.node.iter().filter(|node| node.op_type == *kind).count()
        };
        let rewritten = for_cpu(&published).unwrap();
        for (kind, before, after) in [(OpType::PRelu, 69, 0), (OpType::Pad, 3, 0), (OpType::Transpose, 1, 1)] {
            assert_eq!((count(&published, &kind), count(&rewritten, &kind)), (before, after), "{kind}");
        }
    }

    #[test]
    fn channels_of_zeros_come_from_a_convolution_where_they_fill_blocks() {
        for (channels, amounts, is_said_anew) in [
            (16, vec![0, 0, 0, 0, 0, 32, 0, 0], true),
            (8, vec![0, 0, 0, 0, 0, 8, 0, 0], false),
            (16, vec![0, 0, 1, 1, 0, 0, 1, 1], false),
        ] {
            let weights = TensorProto::from_f32("w", vec![channels, 3, 1, 1], vec![0.5; 3 * channels as usize]);
            let amounts = TensorProto::from_i64("amounts", vec![8], amounts);
            let graph = Graph {
                node: vec![
                    plain(OpType::Conv, vec!["x", "w"], "a"),
                    plain(OpType::MaxPool, vec!["a"], "b"),
                    plain(OpType::Pad, vec!["b", "amounts"], "y"),
                ],
                initializer: vec![weights, amounts],
                ..Graph::default()
            };
            let rewritten = for_cpu(&onnx_rs::encode(&Model { graph: Some(graph), ..Model::default() }));
            assert_eq!(rewritten.is_some(), is_said_anew, "{channels}");
            let Some(rewritten) = rewritten else { continue };
            let graph = onnx_rs::parse(&rewritten).unwrap().graph.unwrap();
            let conv = &graph.node[2];
            assert_eq!((&conv.op_type, &conv.output[..]), (&OpType::Conv, &["y"][..]));
            let weights = graph.get_initializer(conv.input[1]).unwrap();
            assert_eq!(weights.dims(), [48, 16, 1, 1]);
            let values = weights.as_f32().unwrap();
            assert!((0..48 * 16).all(|at| values[at] == f32::from(at / 16 == at % 16)));
        }
    }

    #[test]
    fn slopes_that_are_not_one_a_channel_are_left_alone() {
        let nodes = vec![plain(OpType::PRelu, vec!["x", "slopes"], "y")];
        for dims in [vec![], vec![4], vec![4, 1, 1], vec![2, 2, 1], vec![1, 2, 2, 1]] {
            let values = vec![0.5; dims.iter().product::<i64>() as usize];
            assert_eq!(for_cpu(&model(nodes.clone(), TensorProto::from_f32("slopes", dims, values))), None);
        }
        let elsewhere = TensorProto::from_f32("others", vec![1, 4, 1, 1], vec![0.5; 4]);
        assert_eq!(for_cpu(&model(nodes, elsewhere)), None, "slopes that are computed");
        assert_eq!(for_cpu(b"no model"), None);
    }
}
