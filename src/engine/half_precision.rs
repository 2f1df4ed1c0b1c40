//! Graphs said in half precision (16-bit floats), for GPUs, which compute faster in it and move half as much.
//!
//! Inputs and outputs stay 32-bit floats, and so does the last layer before an output with what follows on it: a point of a
//! picture of 256 pixels would come in steps of an eighth of one. Weights that a file stores in 16 bits are taken as they are.

use std::collections::{HashMap, HashSet};

use half::f16;
use onnx_rs::ast::{Attribute, AttributeType, DataType, Graph, Node, OpType, TensorProto};

use super::rewrite::only_what_is_fed;

/// The same model in half precision; `None` where its graph holds an operator that is not known to bear it, an input of other
/// numbers, or a weight that is too large for 16 bits. Whether what it computes on the way fits, is for a measurement to tell.
pub(super) fn in_half(model: &[u8]) -> Option<Vec<u8>> {
    let mut model = onnx_rs::parse(model).ok()?;
    only_what_is_fed(&mut model);
    let graph = model.graph.as_mut()?;
    if graph.input.iter().any(|input| input.tensor_elem_type() != Some(DataType::Float)) {
        return None;
    }
    let weights = halved(&graph.initializer)?;
    let names: HashMap<&str, String> = graph
        .node
        .iter()
        .flat_map(|node| &node.input)
        .map(|tensor| (*tensor, format!("{tensor} in the other precision")))
        .collect();
    let is_last = last(graph);
    let mut said = Said::new(graph, &names, &weights);
    for (node, is_last) in std::mem::take(&mut graph.node).into_iter().zip(is_last) {
        said.put(node, if is_last { DataType::Float } else { DataType::Float16 })?;
    }
    let Said { mut nodes, constants, .. } = said;
    let read: HashSet<&str> = nodes.iter().flat_map(|node| node.input.iter().copied()).collect();
    let leaves = |tensor: &str| graph.output.iter().any(|output| output.name == tensor);
    nodes.retain(|node| node.output.iter().any(|tensor| read.contains(tensor) || leaves(tensor)));
    graph.initializer.extend(constants);
    // The runtime warns of each constant that nothing uses.
    let read: HashSet<&str> = nodes.iter().flat_map(|node| node.input.iter().copied()).collect();
    graph.initializer.retain(|constant| read.contains(constant.name()));
    graph.node = nodes;
    // They tell the types of what is computed on the way.
    graph.value_info.clear();
    Some(onnx_rs::encode(&model))
}

/// Operators that ONNX Runtime has in half precision for GPUs, and that make no large numbers of small ones.
fn bears_it(op: &OpType<'_>) -> bool {
    use OpType as O;
    matches!(
        op,
        O::Add
            | O::AveragePool
            | O::BatchNormalization
            | O::Clip
            | O::Concat
            | O::Conv
            | O::Flatten
            | O::Gemm
            | O::GlobalAveragePool
            | O::LeakyRelu
            | O::MatMul
            | O::MaxPool
            | O::Mul
            | O::PRelu
            | O::Pad
            | O::ReduceMean
            | O::Relu
            | O::Reshape
            | O::Resize
            | O::Sigmoid
            | O::Softmax
            | O::Squeeze
            | O::Transpose
    )
}

/// The 32-bit constants in 16 bits, as bytes; `None` where one is too large.
fn halved<'a>(constants: &[TensorProto<'a>]) -> Option<HashMap<&'a str, Vec<u8>>> {
    let halved = |constant: &TensorProto<'a>| {
        let halves = constant.as_f32()?.iter().map(|value| f16::from_f32(*value)).collect::<Vec<_>>();
        let fits = halves.iter().all(|half| half.is_finite());
        fits.then(|| (constant.name(), halves.iter().flat_map(|half| half.to_le_bytes()).collect()))
    };
    let is_full =
        |constant: &&TensorProto<'_>| constant.data_type() == DataType::Float && !constant.dims().contains(&0);
    constants.iter().filter(is_full).map(halved).collect()
}

/// Which nodes are the last layer before an output, or follow on it.
fn last(graph: &Graph<'_>) -> Vec<bool> {
    let mut behind: HashSet<&str> = graph.output.iter().map(|output| output.name).collect();
    let mut is_last = vec![false; graph.node.len()];
    for (node, is_last) in graph.node.iter().zip(&mut is_last).rev() {
        *is_last = node.output.iter().any(|output| behind.contains(output));
        let is_layer = matches!(node.op_type, OpType::Conv | OpType::Gemm | OpType::MatMul);
        if *is_last && !is_layer && node.op_type != OpType::Shape {
            behind.extend(node.input.iter().copied());
        }
    }
    is_last
}

/// What was said so far, in the order of the graph.
struct Said<'a> {
    nodes: Vec<Node<'a>>,
    constants: Vec<TensorProto<'a>>,
    /// The precision of each tensor of floats, as it was first there ...
    precisions: HashMap<&'a str, DataType>,
    /// ... and what it is called in the other one, where it is there in both.
    others: HashMap<&'a str, &'a str>,
    /// What it would be called.
    names: &'a HashMap<&'a str, String>,
    /// The 32-bit constants in 16 bits, and their sizes.
    weights: &'a HashMap<&'a str, Vec<u8>>,
    sizes: HashMap<&'a str, Vec<i64>>,
}

impl<'a> Said<'a> {
    fn new(graph: &Graph<'a>, names: &'a HashMap<&'a str, String>, weights: &'a HashMap<&'a str, Vec<u8>>) -> Self {
        let constants = graph.initializer.iter().map(|constant| (constant.name(), constant.data_type()));
        let inputs = graph.input.iter().map(|input| (input.name, DataType::Float));
        let is_float = |(_, kind): &(&str, DataType)| matches!(kind, DataType::Float | DataType::Float16);
        Self {
            nodes: Vec::new(),
            constants: Vec::new(),
            precisions: inputs.chain(constants.filter(is_float)).collect(),
            others: HashMap::new(),
            names,
            weights,
            sizes: graph.initializer.iter().map(|constant| (constant.name(), constant.dims().to_vec())).collect(),
        }
    }

    /// Puts the node there, computing in this precision if it computes with floats; `None` where it cannot be.
    fn put(&mut self, mut node: Node<'a>, precision: DataType) -> Option<()> {
        let first = *node.input.first()?;
        let found = self.precisions.get(first).copied();
        match (&node.op_type, found) {
            // A weight that is stored in 16 bits.
            (OpType::Cast, Some(DataType::Float16))
                if self.sizes.contains_key(first) && casts_to(&node, DataType::Float) =>
            {
                self.precisions.insert(node.output[0], DataType::Float);
                self.others.insert(node.output[0], first);
            }
            // Sizes of tensors, and what is computed with them.
            (OpType::Shape, _) | (OpType::Gather | OpType::Unsqueeze | OpType::Concat, None) => {}
            (op, Some(_)) if node.domain.is_empty() && bears_it(op) => {
                // How far a picture is scaled is told in 32 bits, whatever it is.
                let is_resize = *op == OpType::Resize;
                for (n, input) in node.input.iter_mut().enumerate() {
                    *input = self.tensor(input, if is_resize && n > 0 { DataType::Float } else { precision })?;
                }
                // A second one tells places or masks.
                self.precisions.insert(node.output[0], precision);
            }
            _ => return None,
        }
        self.nodes.push(node);
        Some(())
    }

    /// The name of a tensor in this precision, if it is one of floats.
    fn tensor(&mut self, tensor: &'a str, precision: DataType) -> Option<&'a str> {
        if self.precisions.get(tensor).is_none_or(|found| *found == precision) {
            return Some(tensor);
        }
        if let Some(other) = self.others.get(tensor) {
            return Some(other);
        }
        let other = self.names.get(tensor)?.as_str();
        match self.weights.get(tensor) {
            Some(weights) => {
                let sizes = self.sizes.get(tensor)?.clone();
                self.constants.push(TensorProto::from_raw(other, sizes, DataType::Float16, weights));
            }
            None => self.nodes.push(cast(tensor, precision, other)),
        }
        self.others.insert(tensor, other);
        Some(other)
    }
}

/// How `Cast` names a type.
fn code(precision: DataType) -> i64 {
    match precision {
        DataType::Float16 => 10,
        _ => 1,
    }
}

fn casts_to(node: &Node<'_>, precision: DataType) -> bool {
    node.attribute.iter().any(|attribute| attribute.name == "to" && attribute.i == code(precision))
}

fn cast<'a>(from: &'a str, precision: DataType, to: &'a str) -> Node<'a> {
    let kind = Attribute { name: "to", r#type: AttributeType::Int, i: code(precision), ..Attribute::default() };
    Node { op_type: OpType::Cast, input: vec![from], output: vec![to], attribute: vec![kind], ..Node::default() }
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, IxDyn};
    use onnx_rs::ast::{TensorTypeProto, TypeProto, TypeValue, ValueInfo};

    use super::*;
    use crate::config::{Precision, Settings};
    use crate::engine::{Engine, Model};
    use crate::test_files;

    fn model(name: &str, file: &str, precision: Precision) -> Model {
        let mut settings = Settings::defaults().unwrap().engine;
        settings.precision = precision;
        Engine::start(&settings).unwrap().load(name, &test_files::model(file)).unwrap()
    }

    /// By output, how far half precision is off: of its largest value.
    fn off(name: &str, file: &str, rows: &ArrayD<f32>) -> Vec<f32> {
        let exact = model(name, file, Precision::Fp32).run(rows.clone()).unwrap();
        let half = model(name, file, Precision::Fp16).run(rows.clone()).unwrap();
        let off = |(exact, half): (&ArrayD<f32>, &ArrayD<f32>)| {
            assert_eq!(exact.shape(), half.shape());
            let largest = exact.iter().fold(0.0, |most: f32, value| most.max(value.abs()));
            let off = exact.iter().zip(half).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            off / largest
        };
        exact.iter().zip(&half).map(off).collect()
    }

    fn rows(shape: &[usize], largest: f32) -> ArrayD<f32> {
        let values = (0..shape.iter().product()).map(|at: usize| (at * at * 7919 % 251) as f32 / 250.0 * largest);
        ArrayD::from_shape_vec(IxDyn(shape), values.collect()).unwrap()
    }

    #[test]
    fn models_that_see_give_in_half_precision_what_they_give_in_full() {
        // A CPU rounds the weights alone: what comes between stays in 32 bits there. The last one looks at noise.
        for (name, file, rows, most) in [
            ("emotion", "emotion.onnx", rows(&[3, 1, 48, 48], 2.0), 0.001),
            ("face_landmarks", "face_landmarks.onnx", rows(&[2, 256, 256, 3], 1.0), 0.001),
            ("yunet", "yunet_n_dynamic.onnx", rows(&[1, 3, 192, 320], 255.0), 0.04),
        ] {
            let off = off(name, file, &rows);
            // Not the very same: something was computed in another way.
            assert!(off.iter().all(|off| *off < most) && off.iter().any(|off| *off > 0.0), "{name}: {off:?}");
        }
    }

    #[test]
    fn all_but_the_last_layers_are_in_half_precision_and_no_weight_is_there_twice() {
        for (file, layers, full) in
            [("emotion.onnx", 30, 1), ("face_landmarks.onnx", 105, 2), ("yunet_n_dynamic.onnx", 59, 12)]
        {
            let published = std::fs::read(test_files::model(file)).unwrap();
            let half = in_half(&published).unwrap();
            let half = onnx_rs::parse(&half).unwrap();
            let graph = half.graph.unwrap();
            let is_layer = |node: &&Node<'_>| matches!(node.op_type, OpType::Conv | OpType::Gemm);
            let is_half = |node: &&Node<'_>| {
                graph.get_initializer(node.input[1]).is_some_and(|weights| weights.data_type() == DataType::Float16)
            };
            assert_eq!(graph.node.iter().filter(is_layer).count(), layers, "{file}");
            assert_eq!(graph.node.iter().filter(is_layer).filter(is_half).count(), layers - full, "{file}");
            let read: HashSet<&str> = graph.node.iter().flat_map(|node| node.input.iter().copied()).collect();
            assert!(graph.initializer.iter().all(|constant| read.contains(constant.name())), "{file}");
            assert_eq!(half.metadata_props, onnx_rs::parse(&published).unwrap().metadata_props);
        }
    }

    /// Two convolutions of one point with an operator between, and an input of such numbers.
    fn small(between: OpType<'static>, weight: f32, fed: DataType) -> Vec<u8> {
        let plain = |op_type, input: &[&'static str], output| Node {
            op_type,
            input: input.to_vec(),
            output: vec![output],
            ..Node::default()
        };
        let node = vec![
            plain(OpType::Conv, &["x", "w"], "a"),
            plain(between, &["a"], "b"),
            plain(OpType::Conv, &["b", "w"], "y"),
        ];
        let told = |name, elem_type| {
            let value = Some(TypeValue::Tensor(TensorTypeProto { elem_type, shape: None }));
            ValueInfo { name, r#type: Some(TypeProto { value, ..TypeProto::default() }), ..ValueInfo::default() }
        };
        // Old files list their constants among the inputs.
        let input = vec![told("x", fed), told("w", DataType::Float)];
        let output = vec![told("y", DataType::Float)];
        let initializer = vec![TensorProto::from_f32("w", vec![1, 1, 1, 1], vec![weight])];
        let graph = Graph { node, initializer, input, output, ..Graph::default() };
        onnx_rs::encode(&onnx_rs::ast::Model { graph: Some(graph), ..Default::default() })
    }

    #[test]
    fn a_model_that_would_suffer_stays_as_it_is() {
        let float = DataType::Float;
        let half = in_half(&small(OpType::Relu, 2.0, float)).unwrap();
        let inputs = onnx_rs::parse(&half).unwrap().graph.unwrap().input;
        assert_eq!(inputs.iter().map(|input| input.name).collect::<Vec<_>>(), ["x"], "no weight has to be fed");
        assert_eq!(in_half(&small(OpType::Reciprocal, 2.0, float)), None, "small numbers become large ones");
        assert_eq!(in_half(&small(OpType::Relu, 70_000.0, float)), None, "a weight above 65,504");
        assert_eq!(in_half(&small(OpType::Relu, 2.0, DataType::Float16)), None, "an input that is half already");
        assert_eq!(in_half(b"no model"), None);
        for file in ["dnsmos_sig_bak_ovr.onnx", "face_blendshapes.onnx", "silero_vad.onnx"] {
            let published = std::fs::read(test_files::model(file)).unwrap();
            assert_eq!(in_half(&published), None, "{file}");
        }
    }
}
