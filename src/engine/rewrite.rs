//! Graphs said in the operators that ONNX Runtime is fast at.
//!
//! On the CPU it keeps a network's tensors in blocks of channels from one convolution to the next, but has no `PRelu` in that
//! layout: each one turns its tensor back, is computed a value at a time, and turns it in again. The network of face landmarks
//! has 69 of them, and spends two thirds of its time there.

use onnx_rs::ast::{Attribute, AttributeType, DataType, Graph, Node, OpType, TensorProto};

/// Blocks hold this many channels at most; networks whose channels do not fill them leave that layout.
const BLOCK: usize = 16;

/// The same model without `PRelu`; `None` where there is none whose slopes are constants, one a channel.
///
/// For a slope a, `PRelu(x) = x + (1 - a) max(-x, 0)`, and scaling a channel is a depthwise convolution of one point, which
/// takes the maximum and the sum along. Where channels do not fill the blocks, `PRelu(x) = max(x, 0) + a min(x, 0)`, as plain
/// arithmetic.
pub(super) fn without_prelu(model: &[u8]) -> Option<Vec<u8>> {
    let mut model = onnx_rs::parse(model).ok()?;
    let graph = model.graph.as_mut()?;
    let parts: Vec<Option<Parts>> = graph.node.iter().enumerate().map(|(n, node)| Parts::of(n, node, graph)).collect();
    if parts.iter().all(Option::is_none) {
        return None;
    }
    let mut nodes = Vec::with_capacity(graph.node.len() + 3 * parts.len());
    for (node, parts) in std::mem::take(&mut graph.node).into_iter().zip(&parts) {
        match parts {
            Some(parts) => parts.put(&node, &mut nodes, &mut graph.initializer),
            None => nodes.push(node),
        }
    }
    graph.node = nodes;
    Some(onnx_rs::encode(&model))
}

/// What stands in for one `PRelu`: its slopes, and names for what comes between.
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
            let rewritten = without_prelu(&model(nodes.clone(), slopes)).unwrap();
            let rewritten = onnx_rs::parse(&rewritten).unwrap();
            let graph = rewritten.graph.unwrap();
            assert_eq!(graph.node.len(), 1 + 2 * 4);
            assert!(graph.node.iter().all(|node| node.op_type != OpType::PRelu));
            assert_eq!(graph.node.iter().filter(|node| node.output == ["b"] || node.output == ["y"]).count(), 2);
            assert_eq!(rewritten.metadata_props[0].value, "7");
        }
    }

    #[test]
    fn slopes_that_are_not_one_a_channel_are_left_alone() {
        let nodes = vec![plain(OpType::PRelu, vec!["x", "slopes"], "y")];
        for dims in [vec![], vec![4], vec![4, 1, 1], vec![2, 2, 1], vec![1, 2, 2, 1]] {
            let values = vec![0.5; dims.iter().product::<i64>() as usize];
            assert_eq!(without_prelu(&model(nodes.clone(), TensorProto::from_f32("slopes", dims, values))), None);
        }
        let elsewhere = TensorProto::from_f32("others", vec![1, 4, 1, 1], vec![0.5; 4]);
        assert_eq!(without_prelu(&model(nodes, elsewhere)), None, "slopes that are computed");
        assert_eq!(without_prelu(b"no model"), None);
    }
}
