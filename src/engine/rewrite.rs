//! Rewrites models so that ONNX Runtime runs them faster on the CPU.
//!
//! On the CPU, ONNX Runtime keeps tensors in blocks of channels between convolutions, but does not implement `PRelu`
//! and `Pad` in that layout. At each `PRelu` it converts the tensor to the plain layout, computes value by value, and
//! converts it back. The face landmark network has 69 of them and spends two thirds of its time there. After a `Pad`,
//! the plain layout also stays in use for the additions that follow.
//!
//! This module replaces both operators by convolutions and other operators that work in the blocked layout.

use onnx_rs::ast::{Attribute, AttributeType, DataType, Graph, Model, Node, OpType, TensorProto};

/// Maximum number of channels in a block. ONNX Runtime uses the plain layout for layers whose channels do not fill
/// blocks.
const BLOCK: usize = 16;
/// A limit above the number of channels of any layer of a face network.
const MAX_CHANNELS: usize = 1 << 12;

/// Rewrites a model for the CPU. Returns `None` if it has nothing to rewrite.
pub(super) fn for_cpu(model: &[u8]) -> Option<Vec<u8>> {
    let mut model = onnx_rs::parse(model).ok()?;
    remove_constant_inputs(&mut model);
    let graph = model.graph.as_mut()?;
    let mut replacements: Vec<Option<Replacement>> =
        graph.node.iter().enumerate().map(|(n, node)| Replacement::of(n, node, graph)).collect();
    for number in 0..graph.node.len() {
        // Change the weights of a convolution at most once.
        let parts = mirror_channels(number, graph)
            .filter(|parts| parts.iter().all(|(place, _)| replacements[*place].is_none()));
        for (place, replacement) in parts.into_iter().flatten() {
            replacements[place] = Some(replacement);
        }
    }
    if replacements.iter().all(Option::is_none) {
        return None;
    }
    let mut nodes = Vec::with_capacity(graph.node.len() + 3 * replacements.len());
    for (node, replacement) in std::mem::take(&mut graph.node).into_iter().zip(&replacements) {
        match replacement {
            Some(Replacement::PRelu(parts)) => parts.emit(&node, &mut nodes, &mut graph.initializer),
            Some(Replacement::Pad(pad)) => pad.emit(&node, &mut nodes, &mut graph.initializer),
            Some(Replacement::Conv(conv)) => conv.emit(node, &mut nodes, &mut graph.initializer),
            Some(Replacement::Relu) => nodes.push(simple_node(OpType::Relu, vec![node.input[0]], node.output[0])),
            None => nodes.push(node),
        }
    }
    // ONNX Runtime logs a warning for each unused constant.
    graph.initializer.retain(|constant| nodes.iter().any(|node| node.input.contains(&constant.name())));
    graph.node = nodes;
    Some(onnx_rs::encode(&model))
}

/// Removes constants from the graph's inputs. Files of old ONNX versions list constants among the inputs, and a rewrite
/// that removes such a constant would turn it into an input that callers must provide.
pub(super) fn remove_constant_inputs(model: &mut Model<'_>) {
    const CONSTANTS_STAND_ALONE: i64 = 4;
    model.ir_version = model.ir_version.max(CONSTANTS_STAND_ALONE);
    if let Some(graph) = &mut model.graph {
        let (inputs, constants) = (&mut graph.input, &graph.initializer);
        inputs.retain(|input| constants.iter().all(|constant| constant.name() != input.name));
    }
}

/// The replacement of a node.
enum Replacement {
    PRelu(PReluReplacement),
    Pad(PadReplacement),
    Conv(ConvWeights),
    /// A `Relu` for a `PRelu`.
    Relu,
}

impl Replacement {
    fn of(number: usize, node: &Node<'_>, graph: &Graph<'_>) -> Option<Self> {
        let prelu = PReluReplacement::of(number, node, graph).map(Self::PRelu);
        prelu.or_else(|| PadReplacement::of(number, node, graph).map(Self::Pad))
    }
}

/// The replacement of a `Pad` that appends channels of zeros: a 1 x 1 convolution that copies each existing channel.
struct PadReplacement {
    from: usize,
    to: usize,
    name: String,
}

impl PadReplacement {
    fn of(number: usize, node: &Node<'_>, graph: &Graph<'_>) -> Option<Self> {
        let ([from, amounts], [_], OpType::Pad, "") = (&node.input[..], &node.output[..], &node.op_type, node.domain)
        else {
            return None;
        };
        // A `Pad` without a mode and a value pads with zeros.
        if node.attribute.iter().any(|attribute| attribute.name == "mode" && attribute.s != b"constant") {
            return None;
        }
        let amounts = graph.get_initializer(amounts)?.as_i64()?.into_owned();
        let [0, 0, 0, 0, 0, more, 0, 0] = amounts[..] else { return None };
        let (from, more) = (channels(graph, from)?, usize::try_from(more).ok()?);
        let fills = from.is_multiple_of(BLOCK) && more.is_multiple_of(BLOCK);
        let to = from.checked_add(more).filter(|to| fills && *to <= MAX_CHANNELS)?;
        Some(Self { from, to, name: format!("pad {number}") })
    }

    fn emit<'a>(&'a self, node: &Node<'a>, nodes: &mut Vec<Node<'a>>, constants: &mut Vec<TensorProto<'a>>) {
        let mut values = vec![0.0; self.to * self.from];
        for channel in 0..self.from {
            values[channel * self.from + channel] = 1.0;
        }
        let [from, to] = [self.from, self.to].map(|count| i64::try_from(count).unwrap_or(i64::MAX));
        constants.push(TensorProto::from_f32(&self.name, vec![to, from, 1, 1], values));
        let kernel =
            Attribute { name: "kernel_shape", r#type: AttributeType::Ints, ints: vec![1, 1], ..Attribute::default() };
        let conv = simple_node(OpType::Conv, vec![node.input[0], &self.name], node.output[0]);
        nodes.push(Node { attribute: vec![kernel], ..conv });
    }
}

/// Finds out how many channels a tensor has from the operators that compute it.
fn channels(graph: &Graph<'_>, tensor: &str) -> Option<usize> {
    let mut tensor = tensor;
    // The number of steps is limited because an invalid graph may have a cycle.
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

/// The replacement of a `PRelu` whose channels fill whole blocks: its slopes, and names for the intermediate tensors.
///
/// For a slope a, `PRelu(x) = x + (1 - a) max(-x, 0)`. Both products are depthwise 1 x 1 convolutions, into which ONNX
/// Runtime fuses the maximum and the sum.
struct PReluReplacement {
    slopes: Vec<f32>,
    names: [String; 5],
}

impl PReluReplacement {
    fn of(number: usize, node: &Node<'_>, graph: &Graph<'_>) -> Option<Self> {
        let slopes = slopes(node, graph)?;
        let names = ["minus", "mirrored", "below", "scale", "scaled"].map(|part| format!("prelu {number} {part}"));
        slopes.len().is_multiple_of(BLOCK).then_some(Self { slopes, names })
    }

    fn emit<'a>(&'a self, node: &Node<'a>, nodes: &mut Vec<Node<'a>>, constants: &mut Vec<TensorProto<'a>>) {
        let [minus, mirrored, below, scale, scaled] = self.names.each_ref().map(String::as_str);
        let (from, to) = (node.input[0], node.output[0]);
        let count = i64::try_from(self.slopes.len()).unwrap_or(i64::MAX);
        let one_point = vec![count, 1, 1, 1];
        constants.push(TensorProto::from_f32(minus, one_point.clone(), vec![-1.0; self.slopes.len()]));
        constants.push(TensorProto::from_f32(scale, one_point, self.slopes.iter().map(|slope| 1.0 - slope).collect()));
        let by_channel = |from, by, to| {
            let ints = |name, ints| Attribute { name, r#type: AttributeType::Ints, ints, ..Attribute::default() };
            let group = Attribute { name: "group", r#type: AttributeType::Int, i: count, ..Attribute::default() };
            let conv = simple_node(OpType::Conv, vec![from, by], to);
            Node { attribute: vec![group, ints("kernel_shape", vec![1, 1])], ..conv }
        };
        nodes.push(by_channel(from, minus, mirrored));
        nodes.push(simple_node(OpType::Relu, vec![mirrored], below));
        nodes.push(by_channel(below, scale, scaled));
        nodes.push(simple_node(OpType::Add, vec![scaled, from], to));
    }
}

/// Returns the slopes of a `PRelu` with one slope per channel of [batch, channels, height, width]. Slopes with fewer
/// dimensions are not supported, because it depends on the input's shape which dimensions they apply to.
fn slopes(node: &Node<'_>, graph: &Graph<'_>) -> Option<Vec<f32>> {
    let ([_, slopes], [_], OpType::PRelu, "") = (&node.input[..], &node.output[..], &node.op_type, node.domain) else {
        return None;
    };
    let slopes = graph.get_initializer(slopes).filter(|slopes| slopes.data_type() == DataType::Float)?;
    let [1, channels, 1, 1] = slopes.dims() else { return None };
    let channels = usize::try_from(*channels).ok()?;
    Some(slopes.as_f32()?.into_owned()).filter(|slopes| slopes.len() == channels)
}

/// Returns the replacements of a `PRelu` whose channels leave half a block empty, and of the convolutions around it.
/// The empty half is filled with the negative of each channel, which costs no time.
///
/// For a slope a, `PRelu(x) = max(x, 0) - a max(-x, 0)`. The pattern is: a convolution computes x, a depthwise
/// convolution reads the `PRelu`, and a third convolution reads the depthwise one. The first is changed to compute -x
/// as well, the slopes go into the weights of the second, and the third adds both halves.
fn mirror_channels(number: usize, graph: &Graph<'_>) -> Option<[(usize, Replacement); 4]> {
    let prelu = &graph.node[number];
    let slopes = slopes(prelu, graph)?;
    let channels = slopes.len();
    if channels % BLOCK != BLOCK / 2 || only_reader(graph, prelu.input[0]) != Some(number) {
        return None;
    }
    let before = graph.node.iter().position(|node| node.output.contains(&prelu.input[0]))?;
    let depthwise = only_reader(graph, prelu.output[0])?;
    let behind = only_reader(graph, graph.node[depthwise].output.first()?)?;
    let mut first = ConvWeights::of(before, 1, graph)?;
    let mut second = ConvWeights::of(depthwise, channels, graph)?;
    let mut third = ConvWeights::of(behind, 1, graph)?;
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
    let [first, second, third] = [first, second, third].map(Replacement::Conv);
    Some([(before, first), (number, Replacement::Relu), (depthwise, second), (behind, third)])
}

/// Returns the only node that reads a tensor. `None` if several nodes read it or it is an output of the graph.
fn only_reader(graph: &Graph<'_>, tensor: &str) -> Option<usize> {
    let mut readers = graph.node.iter().enumerate().filter(|(_, node)| node.input.contains(&tensor));
    let leaves = graph.output.iter().any(|output| output.name == tensor);
    let (only, None, false) = (readers.next()?, readers.next(), leaves) else { return None };
    Some(only.0)
}

/// New weights of a convolution.
struct ConvWeights {
    dims: Vec<usize>,
    weights: Vec<f32>,
    bias: Option<Vec<f32>>,
    groups: usize,
    names: [String; 2],
}

impl ConvWeights {
    /// Reads the weights of a node. `None` if it is not a two-dimensional convolution with this number of groups.
    fn of(number: usize, groups: usize, graph: &Graph<'_>) -> Option<Self> {
        let node = &graph.node[number];
        let found = node.attribute.iter().find(|attribute| attribute.name == "group").map_or(1, |group| group.i);
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
            && usize::try_from(found) == Ok(groups);
        let names = ["weights", "bias"].map(|part| format!("conv {number} {part}"));
        fits.then_some(Self { dims, weights, bias, groups, names })
    }

    fn emit<'a>(&'a self, mut node: Node<'a>, nodes: &mut Vec<Node<'a>>, constants: &mut Vec<TensorProto<'a>>) {
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

fn simple_node<'a>(op_type: OpType<'a>, input: Vec<&'a str>, output: &'a str) -> Node<'a> {
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
    fn each_prelu_is_replaced_and_other_nodes_are_kept() {
        let nodes = vec![
            simple_node(OpType::Sigmoid, vec!["x"], "a"),
            simple_node(OpType::PRelu, vec!["a", "slopes"], "b"),
            simple_node(OpType::PRelu, vec!["b", "slopes"], "y"),
        ];
        let slopes =
            |channels: i64| TensorProto::from_f32("slopes", vec![1, channels, 1, 1], vec![0.5; channels as usize]);
        let rewritten = for_cpu(&model(nodes.clone(), slopes(32))).unwrap();
        let rewritten = onnx_rs::parse(&rewritten).unwrap();
        let graph = rewritten.graph.unwrap();
        assert_eq!(graph.node.len(), 1 + 2 * 4);
        assert!(graph.node.iter().all(|node| node.op_type != OpType::PRelu));
        assert_eq!(graph.node.iter().filter(|node| node.output == ["b"] || node.output == ["y"]).count(), 2);
        assert!(graph.initializer.iter().all(|constant| constant.name() != "slopes"), "unused constants are removed");
        assert_eq!(rewritten.metadata_props[0].value, "7");
        for channels in [3, 8] {
            assert_eq!(
                for_cpu(&model(nodes.clone(), slopes(channels))),
                None,
                "{channels} channels do not fill blocks"
            );
        }
    }

    #[test]
    fn invalid_graphs_are_not_rewritten() {
        let many = |name, dims: &[i64]| TensorProto::from_f32(name, dims.to_vec(), vec![0.5; 16]);
        let padded = |before: Vec<Node<'static>>, channels: i64, more: i64| {
            let amounts = TensorProto::from_i64("amounts", vec![8], vec![0, 0, 0, 0, 0, more, 0, 0]);
            let nodes = [before, vec![simple_node(OpType::Pad, vec!["x", "amounts"], "y")]].concat();
            let initializer = vec![amounts, many("w", &[channels, 1, 1, 1])];
            let graph = Graph { node: nodes, name: "graph", initializer, ..Graph::default() };
            onnx_rs::encode(&Model { graph: Some(graph), ..Model::default() })
        };
        let conv = || vec![simple_node(OpType::Conv, vec!["a", "w"], "x")];
        assert!(for_cpu(&padded(conv(), 16, 16)).is_some());
        // Found by fuzzing: this would allocate a matrix of channels by channels.
        assert_eq!(for_cpu(&padded(conv(), 16, 67_108_880)), None, "more channels than a layer has");
        assert_eq!(for_cpu(&padded(conv(), 16, i64::MAX - 15)), None, "a number of channels that overflows");
        assert_eq!(for_cpu(&padded(conv(), i64::MAX - 15, i64::MAX - 15)), None);
        assert_eq!(for_cpu(&padded(vec![simple_node(OpType::Relu, vec!["x"], "x")], 16, 16)), None, "a cycle");
        let graph = Graph {
            node: vec![
                simple_node(OpType::Conv, vec!["a", "wide"], "b"),
                simple_node(OpType::PRelu, vec!["b", "slopes"], "c"),
                simple_node(OpType::Conv, vec!["c", "wide"], "d"),
                simple_node(OpType::Conv, vec!["d", "wide"], "y"),
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

    /// Returns a graph of a convolution to eight channels, a `PRelu`, a depthwise convolution, a convolution and an
    /// `Add`. The `Add` also reads the tensor `also`.
    fn bottleneck(also: &str, depthwise: &str) -> Vec<u8> {
        let constant = |name, dims: &[i64]| {
            let values = (0..dims.iter().product::<i64>()).map(|n| n as f32 + 1.0).collect();
            TensorProto::from_f32(name, dims.to_vec(), values)
        };
        let group = Attribute { name: "group", r#type: AttributeType::Int, i: 8, ..Attribute::default() };
        let by_channel = simple_node(OpType::Conv, vec!["c", "w2", "b2"], "d");
        let graph = Graph {
            node: vec![
                simple_node(OpType::Conv, vec!["a", "w1", "b1"], "b"),
                simple_node(OpType::PRelu, vec!["b", "slopes"], "c"),
                Node { attribute: vec![Attribute { name: depthwise, ..group }], ..by_channel },
                simple_node(OpType::Conv, vec!["d", "w3"], "e"),
                simple_node(OpType::Add, vec!["e", also], "y"),
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
    fn half_a_block_of_channels_is_filled_with_the_negated_channels() {
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
    fn a_convolution_between_two_prelus_is_changed_only_once() {
        let constant = |name, dims: &[i64]| {
            TensorProto::from_f32(name, dims.to_vec(), vec![0.5; dims.iter().product::<i64>() as usize])
        };
        let group = Attribute { name: "group", r#type: AttributeType::Int, i: 8, ..Attribute::default() };
        let by_channel =
            |from, to| Node { attribute: vec![group.clone()], ..simple_node(OpType::Conv, vec![from, "w"], to) };
        let graph = Graph {
            node: vec![
                simple_node(OpType::Conv, vec!["a", "v"], "b"),
                simple_node(OpType::PRelu, vec!["b", "slopes"], "c"),
                by_channel("c", "d"),
                simple_node(OpType::Conv, vec!["d", "v"], "e"),
                simple_node(OpType::PRelu, vec!["e", "slopes"], "f"),
                by_channel("f", "g"),
                simple_node(OpType::Conv, vec!["g", "v"], "y"),
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
    fn every_prelu_and_pad_of_the_landmark_network_is_replaced() {
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
    fn a_pad_of_whole_blocks_of_channels_becomes_a_convolution() {
        for (channels, amounts, is_rewritten) in [
            (16, vec![0, 0, 0, 0, 0, 32, 0, 0], true),
            (8, vec![0, 0, 0, 0, 0, 8, 0, 0], false),
            (16, vec![0, 0, 1, 1, 0, 0, 1, 1], false),
        ] {
            let weights = TensorProto::from_f32("w", vec![channels, 3, 1, 1], vec![0.5; 3 * channels as usize]);
            let amounts = TensorProto::from_i64("amounts", vec![8], amounts);
            let graph = Graph {
                node: vec![
                    simple_node(OpType::Conv, vec!["x", "w"], "a"),
                    simple_node(OpType::MaxPool, vec!["a"], "b"),
                    simple_node(OpType::Pad, vec!["b", "amounts"], "y"),
                ],
                initializer: vec![weights, amounts],
                ..Graph::default()
            };
            let rewritten = for_cpu(&onnx_rs::encode(&Model { graph: Some(graph), ..Model::default() }));
            assert_eq!(rewritten.is_some(), is_rewritten, "{channels}");
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
    fn a_prelu_without_one_constant_slope_per_channel_is_not_rewritten() {
        let nodes = vec![simple_node(OpType::PRelu, vec!["x", "slopes"], "y")];
        for dims in [vec![], vec![4], vec![4, 1, 1], vec![2, 2, 1], vec![1, 2, 2, 1]] {
            let values = vec![0.5; dims.iter().product::<i64>() as usize];
            assert_eq!(for_cpu(&model(nodes.clone(), TensorProto::from_f32("slopes", dims, values))), None);
        }
        let elsewhere = TensorProto::from_f32("others", vec![1, 4, 1, 1], vec![0.5; 4]);
        assert_eq!(for_cpu(&model(nodes, elsewhere)), None, "slopes that are computed");
        assert_eq!(for_cpu(b"no model"), None);
    }
}
