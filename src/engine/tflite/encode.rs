//! Encodes the converted network as an ONNX file.

use std::collections::HashSet;

use onnx_rs::ast::{
    Attribute, AttributeType, DataType, Dimension, Graph, Model, Node, OperatorSetId, TensorProto, TensorShape,
    TensorShapeDimension, TensorTypeProto, TypeProto, TypeValue, ValueInfo,
};

use super::graph::{AttributeValue, Builder, Constant, NewNode, NewPort, Numbers};

const OPSET: i64 = 17;
const IR_VERSION: i64 = 8;

impl Builder<'_> {
    /// Encodes the ONNX file with the nodes and constants that the outputs depend on.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut needed: HashSet<&str> = self.outputs.iter().map(|port| port.name.as_str()).collect();
        let mut nodes = Vec::new();
        for node in self.nodes.iter().rev() {
            if needed.contains(node.output.as_str()) {
                needed.extend(node.inputs.iter().map(String::as_str));
                nodes.push(node.encode());
            }
        }
        nodes.reverse();
        let graph = Graph {
            node: nodes,
            name: "converted",
            initializer: self
                .constants
                .iter()
                .filter(|constant| needed.contains(constant.name.as_str()))
                .map(Constant::encode)
                .collect(),
            input: self.inputs.iter().map(NewPort::encode).collect(),
            output: self.outputs.iter().map(NewPort::encode).collect(),
            ..Graph::default()
        };
        onnx_rs::encode(&Model {
            ir_version: IR_VERSION,
            opset_import: vec![OperatorSetId { domain: "", version: OPSET }],
            producer_name: "visage",
            graph: Some(graph),
            ..Model::default()
        })
    }
}

impl NewNode {
    fn encode(&self) -> Node<'_> {
        let attribute = |(name, value): &(&'static str, AttributeValue)| match value {
            AttributeValue::Int(i) => Attribute { name, r#type: AttributeType::Int, i: *i, ..Attribute::default() },
            AttributeValue::Ints(ints) => {
                Attribute { name, r#type: AttributeType::Ints, ints: ints.clone(), ..Attribute::default() }
            }
        };
        Node {
            op_type: self.op.clone(),
            input: self.inputs.iter().map(String::as_str).collect(),
            output: vec![&self.output],
            attribute: self.attributes.iter().map(attribute).collect(),
            ..Node::default()
        }
    }
}

impl Constant {
    fn encode(&self) -> TensorProto<'_> {
        let sizes = self.sizes.iter().map(|size| *size as i64).collect();
        match &self.numbers {
            Numbers::Floats(values) => TensorProto::from_f32(&self.name, sizes, values.clone()),
            Numbers::Integers(values) => TensorProto::from_i64(&self.name, sizes, values.clone()),
        }
    }
}

impl NewPort {
    fn encode(&self) -> ValueInfo<'_> {
        let dimension = |(n, size): (usize, &usize)| TensorShapeDimension {
            value: if n == 0 && self.dynamic_batch {
                Dimension::Param("batch")
            } else {
                Dimension::Value(*size as i64)
            },
            ..TensorShapeDimension::default()
        };
        let shape = TensorShape { dim: self.sizes.iter().enumerate().map(dimension).collect() };
        let tensor = TensorTypeProto { elem_type: DataType::Float, shape: Some(shape) };
        let kind = TypeProto { value: Some(TypeValue::Tensor(tensor)), ..TypeProto::default() };
        ValueInfo { name: &self.name, r#type: Some(kind), ..ValueInfo::default() }
    }
}
