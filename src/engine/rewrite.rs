//! Graphs said in the operators that ONNX Runtime is fast at.
//!
//! On the CPU it keeps a network's tensors in blocks of channels from one convolution to the next, but has no `PRelu` and no
//! `Pad` in that layout. At each `PRelu` it turns the tensor back, computes a value at a time, and turns it in again: the network
//! of face landmarks has 69 of them, and spends two thirds of its time there. After a `Pad` it stays outside for as long as
//! something is added to what was padded.

use onnx_rs::ast::{Attribute, AttributeType, DataType, Graph, Node, OpType, TensorProto};

/// Blocks hold this many channels at most; networks whose channels do not fill them leave that layout.
const BLOCK: usize = 16;

/// The same model for the CPU; `None` where there is nothing to say in another way.
pub(super) fn for_cpu(model: &[u8]) -> Option<Vec<u8>> {
    let mut model = onnx_rs::parse(model).ok()?;
    let graph = model.graph.as_mut()?;
    let stand_ins: Vec<Option<StandIn>> =
        graph.node.iter().enumerate().map(|(n, node)| StandIn::of(n, node, graph)).collect();
    if stand_ins.iter().all(Option::is_none) {
        return None;
    }
    let mut nodes = Vec::with_capacity(graph.node.len() + 3 * stand_ins.len());
    for (node, stand_in) in std::mem::take(&mut graph.node).into_iter().zip(&stand_ins) {
        match stand_in {
            Some(StandIn::PRelu(parts)) => parts.put(&node, &mut nodes, &mut graph.initializer),
            Some(StandIn::Pad(pad)) => pad.put(&node, &mut nodes, &mut graph.initializer),
            None => nodes.push(node),
        }
    }
    // The runtime warns of each constant that nothing uses.
    graph.initializer.retain(|constant| nodes.iter().any(|node| node.input.contains(&constant.name())));
    graph.node = nodes;
    Some(onnx_rs::encode(&model))
}

/// What is put in the place of a node.
enum StandIn {
    PRelu(Parts),
    Pad(Widening),
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
        fills.then(|| Self { from, to: from + more, name: format!("pad {number}") })
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
    loop {
        let node = graph.node.iter().find(|node| node.output.contains(&tensor))?;
        let dims = |place: usize| Some(graph.get_initializer(node.input.get(place)?)?.dims().to_vec());
        match node.op_type {
            OpType::Conv => return usize::try_from(*dims(1)?.first()?).ok(),
            OpType::PRelu => return usize::try_from(*dims(1)?.get(1)?).ok(),
            OpType::MaxPool | OpType::Relu => tensor = node.input.first()?,
            _ => return None,
        }
    }
}

/// What stands in for one `PRelu` with a slope a channel: its slopes, and names for what comes between.
///
/// For a slope a, `PRelu(x) = x + (1 - a) max(-x, 0)`, and scaling a channel is a depthwise convolution of one point, which
/// takes the maximum and the sum along. Where channels do not fill the blocks, `PRelu(x) = max(x, 0) + a min(x, 0)`, as plain
/// arithmetic.
struct Parts {
    slopes: Vec<f32>,
    names: [String; 5],
}

impl Parts {
    fn of(number: usize, node: &Node<'_>, graph: &Graph<'_>) -> Option<Self> {
        let ([_, slopes], [_], OpType::PRelu, "") = (&node.input[..], &node.output[..], &node.op_type, node.domain)
        else {
            return None;
        };
        let slopes = graph.get_initializer(slopes).filter(|slopes| slopes.data_type() == DataType::Float)?;
        // One a channel of [batch, channels, height, width]; with fewer sizes they would not tell which of its input's they are.
        let [1, channels, 1, 1] = slopes.dims() else { return None };
        let names = ["zero", "minus", "scale", "below", "scaled"].map(|part| format!("prelu {number} {part}"));
        let slopes = slopes.as_f32()?.into_owned();
        (usize::try_from(*channels) == Ok(slopes.len())).then_some(Self { slopes, names })
    }

    fn put<'a>(&'a self, node: &Node<'a>, nodes: &mut Vec<Node<'a>>, constants: &mut Vec<TensorProto<'a>>) {
        let [zero, minus, scale, below, scaled] = self.names.each_ref().map(String::as_str);
        let (from, to) = (node.input[0], node.output[0]);
        let channels = self.slopes.len();
        let count = i64::try_from(channels).unwrap_or(i64::MAX);
        if channels.is_multiple_of(BLOCK) {
            let one_point = vec![count, 1, 1, 1];
            constants.push(TensorProto::from_f32(minus, one_point.clone(), vec![-1.0; channels]));
            constants.push(TensorProto::from_f32(
                scale,
                one_point,
                self.slopes.iter().map(|slope| 1.0 - slope).collect(),
            ));
            let by_channel = |from, by, to| Node {
                attribute: vec![
                    Attribute { name: "group", r#type: AttributeType::Int, i: count, ..Attribute::default() },
                    Attribute {
                        name: "kernel_shape",
                        r#type: AttributeType::Ints,
                        ints: vec![1, 1],
                        ..Attribute::default()
                    },
                ],
                ..plain(OpType::Conv, vec![from, by], to)
            };
            nodes.push(by_channel(from, minus, zero));
            nodes.push(plain(OpType::Relu, vec![zero], below));
            nodes.push(by_channel(below, scale, scaled));
            nodes.push(plain(OpType::Add, vec![scaled, from], to));
        } else {
            constants.push(TensorProto::from_f32(zero, Vec::new(), vec![0.0]));
            constants.push(TensorProto::from_f32(scale, vec![1, count, 1, 1], self.slopes.clone()));
            nodes.push(plain(OpType::Min, vec![from, zero], below));
            nodes.push(plain(OpType::Mul, vec![below, scale], scaled));
            nodes.push(plain(OpType::Relu, vec![from], minus));
            nodes.push(plain(OpType::Add, vec![scaled, minus], to));
        }
    }
}

fn plain<'a>(op_type: OpType<'a>, input: Vec<&'a str>, output: &'a str) -> Node<'a> {
    Node { op_type, input, output: vec![output], ..Node::default() }
}

#[cfg(test)]
mod tests {
    use onnx_rs::ast::{Model, OperatorSetId, StringStringEntry};

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
        for channels in [3, 32] {
            let slopes = TensorProto::from_f32("slopes", vec![1, channels, 1, 1], vec![0.5; channels as usize]);
            let rewritten = for_cpu(&model(nodes.clone(), slopes)).unwrap();
            let rewritten = onnx_rs::parse(&rewritten).unwrap();
            let graph = rewritten.graph.unwrap();
            assert_eq!(graph.node.len(), 1 + 2 * 4);
            assert!(graph.node.iter().all(|node| node.op_type != OpType::PRelu));
            assert_eq!(graph.node.iter().filter(|node| node.output == ["b"] || node.output == ["y"]).count(), 2);
            assert!(graph.initializer.iter().all(|constant| constant.name() != "slopes"), "nothing uses them any more");
            assert_eq!(rewritten.metadata_props[0].value, "7");
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
