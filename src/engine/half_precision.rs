//! Converts models to half precision (fp16: 16-bit floats) for GPUs, which compute faster in it and move half as much
//! memory.
//!
//! Inputs and outputs stay in 32 bits. So do the last layer before each output and the operators after it: in 16 bits,
//! the coordinates of a point in a picture of 256 pixels would have steps of an eighth of a pixel. Weights that a file
//! stores in 16 bits are used as they are.

use std::collections::{HashMap, HashSet};

use half::f16;
use onnx_rs::ast::{Attribute, AttributeType, DataType, Graph, Node, OpType, TensorProto};

use super::rewrite::remove_constant_inputs;

/// Converts a model to half precision.
///
/// Returns `None` if its graph has an operator not known to support fp16, an input that is not of 32-bit floats, or a
/// weight too large for 16 bits. Intermediate results that are too large for 16 bits are not detected; measure each
/// model for them.
pub(super) fn to_fp16(model: &[u8]) -> Option<Vec<u8>> {
    let mut model = onnx_rs::parse(model).ok()?;
    remove_constant_inputs(&mut model);
    let graph = model.graph.as_mut()?;
    if graph.input.iter().any(|input| input.tensor_elem_type() != Some(DataType::Float)) {
        return None;
    }
    let weights = to_fp16_weights(&graph.initializer)?;
    let names: HashMap<&str, String> = graph
        .node
        .iter()
        .flat_map(|node| &node.input)
        .map(|tensor| (*tensor, format!("{tensor} in the other precision")))
        .collect();
    let is_last = last_layers(graph);
    let mut builder = GraphBuilder::new(graph, &names, &weights);
    for (node, is_last) in std::mem::take(&mut graph.node).into_iter().zip(is_last) {
        builder.push(node, if is_last { DataType::Float } else { DataType::Float16 })?;
    }
    let GraphBuilder { mut nodes, constants, .. } = builder;
    let read: HashSet<&str> = nodes.iter().flat_map(|node| node.input.iter().copied()).collect();
    let leaves = |tensor: &str| graph.output.iter().any(|output| output.name == tensor);
    nodes.retain(|node| node.output.iter().any(|tensor| read.contains(tensor) || leaves(tensor)));
    graph.initializer.extend(constants);
    // ONNX Runtime logs a warning for each unused constant.
    let read: HashSet<&str> = nodes.iter().flat_map(|node| node.input.iter().copied()).collect();
    graph.initializer.retain(|constant| read.contains(constant.name()));
    graph.node = nodes;
    // These are the types of intermediate tensors, which have changed.
    graph.value_info.clear();
    Some(onnx_rs::encode(&model))
}

/// Whether ONNX Runtime implements the operator in half precision on GPUs, and its outputs are not much larger than its
/// inputs.
fn supports_fp16(op: &OpType<'_>) -> bool {
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

/// Converts the 32-bit constants to 16 bits, as bytes. Returns `None` if a value is too large.
fn to_fp16_weights<'a>(constants: &[TensorProto<'a>]) -> Option<HashMap<&'a str, Vec<u8>>> {
    let convert = |constant: &TensorProto<'a>| {
        let halves = constant.as_f32()?.iter().map(|value| f16::from_f32(*value)).collect::<Vec<_>>();
        let fits = halves.iter().all(|half| half.is_finite());
        fits.then(|| (constant.name(), halves.iter().flat_map(|half| half.to_le_bytes()).collect()))
    };
    let is_full =
        |constant: &&TensorProto<'_>| constant.data_type() == DataType::Float && !constant.dims().contains(&0);
    constants.iter().filter(is_full).map(convert).collect()
}

/// Tells for each node whether it is the last layer before an output, or comes after that layer.
fn last_layers(graph: &Graph<'_>) -> Vec<bool> {
    let mut last_tensors: HashSet<&str> = graph.output.iter().map(|output| output.name).collect();
    let mut is_last = vec![false; graph.node.len()];
    for (node, is_last) in graph.node.iter().zip(&mut is_last).rev() {
        *is_last = node.output.iter().any(|output| last_tensors.contains(output));
        let is_layer = matches!(node.op_type, OpType::Conv | OpType::Gemm | OpType::MatMul);
        if *is_last && !is_layer && node.op_type != OpType::Shape {
            last_tensors.extend(node.input.iter().copied());
        }
    }
    is_last
}

/// Builds the new graph, node by node in the order of the old one.
struct GraphBuilder<'a> {
    nodes: Vec<Node<'a>>,
    constants: Vec<TensorProto<'a>>,
    /// The precision in which each tensor of floats is computed or stored.
    precisions: HashMap<&'a str, DataType>,
    /// The name of each tensor's copy in the other precision, for tensors that have one.
    copies: HashMap<&'a str, &'a str>,
    /// The name that each tensor's copy in the other precision gets.
    names: &'a HashMap<&'a str, String>,
    /// The 32-bit constants converted to 16 bits, and their sizes.
    weights: &'a HashMap<&'a str, Vec<u8>>,
    sizes: HashMap<&'a str, Vec<i64>>,
}

impl<'a> GraphBuilder<'a> {
    fn new(graph: &Graph<'a>, names: &'a HashMap<&'a str, String>, weights: &'a HashMap<&'a str, Vec<u8>>) -> Self {
        let constants = graph.initializer.iter().map(|constant| (constant.name(), constant.data_type()));
        let inputs = graph.input.iter().map(|input| (input.name, DataType::Float));
        let is_float = |(_, kind): &(&str, DataType)| matches!(kind, DataType::Float | DataType::Float16);
        Self {
            nodes: Vec::new(),
            constants: Vec::new(),
            precisions: inputs.chain(constants.filter(is_float)).collect(),
            copies: HashMap::new(),
            names,
            weights,
            sizes: graph.initializer.iter().map(|constant| (constant.name(), constant.dims().to_vec())).collect(),
        }
    }

    /// Adds a node. A node that computes with floats gets this precision. Returns `None` if the node is not supported.
    fn push(&mut self, mut node: Node<'a>, precision: DataType) -> Option<()> {
        let first = *node.input.first()?;
        let found = self.precisions.get(first).copied();
        match (&node.op_type, found) {
            // The cast of a weight that the file stores in 16 bits.
            (OpType::Cast, Some(DataType::Float16))
                if self.sizes.contains_key(first) && casts_to(&node, DataType::Float) =>
            {
                self.precisions.insert(node.output[0], DataType::Float);
                self.copies.insert(node.output[0], first);
            }
            // Operators that compute with the sizes of tensors.
            (OpType::Shape, _) | (OpType::Gather | OpType::Unsqueeze | OpType::Concat, None) => {}
            (op, Some(_)) if node.domain.is_empty() && supports_fp16(op) => {
                // The scale factors of `Resize` are always in 32 bits.
                let is_resize = *op == OpType::Resize;
                for (n, input) in node.input.iter_mut().enumerate() {
                    *input = self.tensor(input, if is_resize && n > 0 { DataType::Float } else { precision })?;
                }
                // A second output would be indices or a mask, not floats.
                self.precisions.insert(node.output[0], precision);
            }
            _ => return None,
        }
        self.nodes.push(node);
        Some(())
    }

    /// Returns the name of a tensor in this precision, and adds a copy if it has none. A tensor that is not of floats
    /// keeps its name.
    fn tensor(&mut self, tensor: &'a str, precision: DataType) -> Option<&'a str> {
        if self.precisions.get(tensor).is_none_or(|found| *found == precision) {
            return Some(tensor);
        }
        if let Some(copy) = self.copies.get(tensor) {
            return Some(copy);
        }
        let copy = self.names.get(tensor)?.as_str();
        match self.weights.get(tensor) {
            Some(weights) => {
                let sizes = self.sizes.get(tensor)?.clone();
                self.constants.push(TensorProto::from_raw(copy, sizes, DataType::Float16, weights));
            }
            None => self.nodes.push(cast(tensor, precision, copy)),
        }
        self.copies.insert(tensor, copy);
        Some(copy)
    }
}

/// The number of a type in ONNX's `TensorProto.DataType`, as the operator `Cast` expects it.
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

    /// Returns the largest error of half precision for each output, as a share of the output's largest value.
    fn relative_errors(name: &str, file: &str, rows: &ArrayD<f32>) -> Vec<f32> {
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
    fn vision_models_give_nearly_the_same_outputs_in_half_precision() {
        // On a CPU only the weights are rounded; intermediate results stay in 32 bits. YuNet has a larger limit because
        // its input here is noise.
        for (name, file, rows, most) in [
            ("emotion", "emotion.onnx", rows(&[3, 1, 48, 48], 2.0), 0.001),
            ("face_landmarks", "face_landmarks.onnx", rows(&[2, 256, 256, 3], 1.0), 0.001),
            ("yunet", "yunet_n_dynamic.onnx", rows(&[1, 3, 192, 320], 255.0), 0.04),
        ] {
            let off = relative_errors(name, file, &rows);
            // The outputs must differ somewhere: this proves that half precision was used.
            assert!(off.iter().all(|off| *off < most) && off.iter().any(|off| *off > 0.0), "{name}: {off:?}");
        }
    }

    #[test]
    fn all_but_the_last_layers_are_in_half_precision_and_every_constant_is_used() {
        for (file, layers, full) in
            [("emotion.onnx", 30, 1), ("face_landmarks.onnx", 105, 2), ("yunet_n_dynamic.onnx", 59, 12)]
        {
            let published = std::fs::read(test_files::model(file)).unwrap();
            let half = to_fp16(&published).unwrap();
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

    /// Returns a model of two 1 x 1 convolutions with an operator between them. `fed` is the type of its input.
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
        let value_info = |name, elem_type| {
            let value = Some(TypeValue::Tensor(TensorTypeProto { elem_type, shape: None }));
            ValueInfo { name, r#type: Some(TypeProto { value, ..TypeProto::default() }), ..ValueInfo::default() }
        };
        // Files of old ONNX versions list constants among the inputs.
        let input = vec![value_info("x", fed), value_info("w", DataType::Float)];
        let output = vec![value_info("y", DataType::Float)];
        let initializer = vec![TensorProto::from_f32("w", vec![1, 1, 1, 1], vec![weight])];
        let graph = Graph { node, initializer, input, output, ..Graph::default() };
        onnx_rs::encode(&onnx_rs::ast::Model { graph: Some(graph), ..Default::default() })
    }

    #[test]
    fn a_model_that_does_not_support_half_precision_is_not_converted() {
        let float = DataType::Float;
        let half = to_fp16(&small(OpType::Relu, 2.0, float)).unwrap();
        let inputs = onnx_rs::parse(&half).unwrap().graph.unwrap().input;
        assert_eq!(
            inputs.iter().map(|input| input.name).collect::<Vec<_>>(),
            ["x"],
            "the weights are no longer inputs"
        );
        assert_eq!(
            to_fp16(&small(OpType::Reciprocal, 2.0, float)),
            None,
            "a reciprocal makes large numbers of small ones"
        );
        assert_eq!(to_fp16(&small(OpType::Relu, 70_000.0, float)), None, "a weight above 65,504");
        assert_eq!(
            to_fp16(&small(OpType::Relu, 2.0, DataType::Float16)),
            None,
            "an input that is in half precision already"
        );
        assert_eq!(to_fp16(b"no model"), None);
        for file in ["dnsmos_sig_bak_ovr.onnx", "face_blendshapes.onnx", "silero_vad.onnx"] {
            let published = std::fs::read(test_files::model(file)).unwrap();
            assert_eq!(to_fp16(&published), None, "{file}");
        }
    }
}
