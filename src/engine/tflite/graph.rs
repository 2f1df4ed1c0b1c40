//! Builds the ONNX graph: maps the tensors of the TensorFlow Lite file to those of the ONNX file, and collects nodes
//! and constants.

use std::collections::HashMap;

use half::f16;
use onnx_rs::ast::OpType;

use super::ConvertError;
use super::layout::{Order, is_same_sequence, position, reorder, stored, tflite_order};
use super::schema::{Kind, Tensor};

/// Maximum number of values in all constants together. The limit is needed because a file may refer to the same bytes
/// any number of times.
const MAX_NUMBERS: usize = 1 << 23;
/// Prefix of the names that the converter generates.
const GENERATED_PREFIX: char = '#';

/// A tensor that the network computes.
#[derive(Debug, Clone)]
pub(super) struct Value {
    pub(super) name: String,
    /// The shape in TensorFlow Lite's order of axes.
    pub(super) shape: Vec<usize>,
    /// The order in which the axes are stored.
    pub(super) order: Order,
    /// Whether the first axis is a batch of any size. It is 1 in `shape` and is always stored first.
    pub(super) dynamic_batch: bool,
}

/// A tensor of the TensorFlow Lite file.
#[derive(Debug, Clone)]
pub(super) enum Operand {
    /// A constant with the values of this tensor of the TensorFlow Lite file.
    Constant(usize),
    Value(Value),
}

#[derive(Debug, Clone)]
pub(super) enum AttributeValue {
    Int(i64),
    Ints(Vec<i64>),
}

/// The attributes of an ONNX operator, by name.
pub(super) type Attributes = Vec<(&'static str, AttributeValue)>;

pub(super) struct NewNode {
    pub(super) op: OpType<'static>,
    pub(super) inputs: Vec<String>,
    pub(super) output: String,
    pub(super) attributes: Attributes,
}

pub(super) enum Numbers {
    Floats(Vec<f32>),
    Integers(Vec<i64>),
}

pub(super) struct Constant {
    pub(super) name: String,
    pub(super) sizes: Vec<usize>,
    pub(super) numbers: Numbers,
}

pub(super) struct NewPort {
    pub(super) name: String,
    pub(super) sizes: Vec<usize>,
    pub(super) dynamic_batch: bool,
}

pub(super) struct Builder<'a> {
    tensors: &'a [Tensor<'a>],
    known: Vec<Option<Operand>>,
    pub(super) nodes: Vec<NewNode>,
    pub(super) constants: Vec<Constant>,
    numbers: usize,
    pub(super) inputs: Vec<NewPort>,
    pub(super) outputs: Vec<NewPort>,
    /// Transposed copies of computed tensors, by tensor name and order.
    transposed: HashMap<(String, Order), String>,
    /// Constants of floats by tensor, shape and order, and constants of integers by their values.
    floats: HashMap<(usize, Vec<usize>, Order), String>,
    integers: HashMap<Vec<i64>, String>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(tensors: &'a [Tensor<'a>]) -> Self {
        let known = tensors.iter().enumerate();
        Self {
            tensors,
            known: known.map(|(n, tensor)| (!tensor.data.is_empty()).then_some(Operand::Constant(n))).collect(),
            nodes: Vec::new(),
            constants: Vec::new(),
            numbers: 0,
            inputs: Vec::new(),
            outputs: Vec::new(),
            transposed: HashMap::new(),
            floats: HashMap::new(),
            integers: HashMap::new(),
        }
    }

    pub(super) fn is_known(&self, tensor: usize) -> bool {
        self.known[tensor].is_some()
    }

    pub(super) const fn tensor(&self, tensor: usize) -> &'a Tensor<'a> {
        &self.tensors[tensor]
    }

    /// Makes a tensor of the TensorFlow Lite file an input of the ONNX file.
    pub(super) fn input(&mut self, tensor: usize, name: &str) -> Result<(), ConvertError> {
        let Tensor { shape, has_batch, kind, .. } = self.tensor(tensor);
        if *kind != Kind::Float32 {
            return Err(ConvertError::Unsupported(format!("the input {name:?} of {kind:?}")));
        }
        if self.is_known(tensor) {
            return Err(ConvertError::Port(format!("the input {name:?} is a constant or is listed twice")));
        }
        self.check_name(name)?;
        let (dynamic_batch, sizes) = (*has_batch, shape.clone());
        self.inputs.push(NewPort { name: name.to_owned(), sizes: sizes.clone(), dynamic_batch });
        let value = Value { name: name.to_owned(), order: tflite_order(sizes.len()), shape: sizes, dynamic_batch };
        self.known[tensor] = Some(Operand::Value(value));
        Ok(())
    }

    /// Makes a tensor of the TensorFlow Lite file an output of the ONNX file. `sizes` is its shape without the batch;
    /// if `None`, it keeps its shape.
    pub(super) fn output(&mut self, tensor: usize, name: &str, sizes: Option<&[usize]>) -> Result<(), ConvertError> {
        let failed = |reason: &str| ConvertError::Port(format!("the output {name:?} {reason}"));
        self.check_name(name)?;
        let Some(Operand::Value(value)) = self.known[tensor].clone() else {
            return Err(failed("is not computed"));
        };
        let rows = usize::from(value.dynamic_batch);
        let sizes = match sizes {
            Some(sizes) => value.shape[..rows].iter().chain(sizes).copied().collect(),
            None => value.shape.clone(),
        };
        if sizes.iter().try_fold(1usize, |all, size| all.checked_mul(*size)) != Some(value.shape.iter().product()) {
            return Err(failed(&format!("has the shape {:?}, which cannot be reshaped to {sizes:?}", value.shape)));
        }
        let read = self.in_tflite_order(&value, &sizes);
        let is_port = |ports: &[NewPort]| ports.iter().any(|port| port.name == read);
        if is_port(&self.inputs) || is_port(&self.outputs) {
            let output = self.node(OpType::Identity, vec![read], vec![]);
            self.rename(&output, name);
        } else {
            self.rename(&read, name);
        }
        self.outputs.push(NewPort { name: name.to_owned(), sizes, dynamic_batch: value.dynamic_batch });
        Ok(())
    }

    fn check_name(&self, name: &str) -> Result<(), ConvertError> {
        let mut ports = self.inputs.iter().chain(&self.outputs);
        if name.is_empty() || name.starts_with(GENERATED_PREFIX) || ports.any(|port| port.name == name) {
            return Err(ConvertError::Port(format!(
                "{name:?} is not a valid name for an input or output, or is used twice"
            )));
        }
        Ok(())
    }

    /// Renames the output of a node everywhere.
    fn rename(&mut self, from: &str, to: &str) {
        for node in &mut self.nodes {
            for name in node.inputs.iter_mut().chain([&mut node.output]).filter(|name| *name == from) {
                to.clone_into(name);
            }
        }
        for known in &mut self.known {
            if let Some(Operand::Value(value)) = known
                && value.name == from
            {
                to.clone_into(&mut value.name);
            }
        }
        let transposed = std::mem::take(&mut self.transposed).into_iter();
        let new = |name: String| if name == from { to.to_owned() } else { name };
        self.transposed = transposed.map(|((name, order), is)| ((new(name), order), new(is))).collect();
    }

    pub(super) fn operand(&self, tensor: Option<&Option<usize>>) -> Result<Operand, String> {
        let tensor = tensor.copied().flatten().ok_or("an input is missing")?;
        self.known[tensor]
            .clone()
            .ok_or_else(|| format!("its input {:?} is not computed yet", self.tensor(tensor).name))
    }

    /// Returns an input that must be computed by the network.
    pub(super) fn value(&self, tensor: Option<&Option<usize>>) -> Result<Value, String> {
        match self.operand(tensor)? {
            Operand::Value(value) => Ok(value),
            Operand::Constant(tensor) => Err(format!("its input {:?} is a constant", self.tensor(tensor).name)),
        }
    }

    /// Returns the tensor number of an input that must be a constant.
    pub(super) fn constant(&self, tensor: Option<&Option<usize>>) -> Result<usize, String> {
        match self.operand(tensor)? {
            Operand::Constant(tensor) => Ok(tensor),
            Operand::Value(_) => Err("an input that must be a constant is computed".to_owned()),
        }
    }

    /// Sets the operand of a tensor of the TensorFlow Lite file.
    pub(super) fn set(&mut self, tensor: usize, operand: Operand) -> Result<(), String> {
        let expected = self.tensor(tensor);
        let shape = match &operand {
            Operand::Value(value) => &value.shape,
            Operand::Constant(from) => &self.tensor(*from).shape,
        };
        if *shape != expected.shape || expected.kind != Kind::Float32 {
            let (kind, sizes) = (expected.kind, &expected.shape);
            return Err(format!("its output {:?} is {kind:?} of {sizes:?}, not floats of {shape:?}", expected.name));
        }
        if self.is_known(tensor) {
            return Err(format!("its output {:?} is computed twice", expected.name));
        }
        self.known[tensor] = Some(operand);
        Ok(())
    }

    /// Adds a node and returns the name of its output.
    pub(super) fn node(&mut self, op: OpType<'static>, inputs: Vec<String>, attributes: Attributes) -> String {
        let output = format!("{GENERATED_PREFIX}{}", self.nodes.len());
        self.nodes.push(NewNode { op, inputs, output: output.clone(), attributes });
        output
    }

    /// Returns the name of the tensor stored in this order. Adds a node if it is stored in another order.
    pub(super) fn in_order(&mut self, value: &Value, order: &[usize]) -> String {
        if value.order == order {
            return value.name.clone();
        }
        let key = (value.name.clone(), order.to_vec());
        if let Some(name) = self.transposed.get(&key) {
            return name.clone();
        }
        let name = if is_same_sequence(&value.shape, value.dynamic_batch, &value.order, order) {
            self.reshape(&value.name, &stored(&value.shape, order), value.dynamic_batch)
        } else {
            let places = order.iter().map(|axis| position(&value.order, *axis) as i64).collect();
            self.node(OpType::Transpose, vec![value.name.clone()], vec![("perm", AttributeValue::Ints(places))])
        };
        self.transposed.insert(key, name.clone());
        name
    }

    /// Returns the name of the tensor stored in TensorFlow Lite's order and reshaped to `sizes`.
    pub(super) fn in_tflite_order(&mut self, value: &Value, sizes: &[usize]) -> String {
        let order = tflite_order(value.shape.len());
        let is_sequence = is_same_sequence(&value.shape, value.dynamic_batch, &value.order, &order);
        let (name, stored) = if is_sequence {
            (value.name.clone(), stored(&value.shape, &value.order))
        } else {
            (self.in_order(value, &order), value.shape.clone())
        };
        if stored == sizes { name } else { self.reshape(&name, sizes, value.dynamic_batch) }
    }

    fn reshape(&mut self, name: &str, sizes: &[usize], dynamic_batch: bool) -> String {
        let mut target: Vec<i64> = sizes.iter().map(|size| *size as i64).collect();
        if let Some(batch) = target.first_mut().filter(|_| dynamic_batch) {
            *batch = -1;
        }
        let target = self.integers(target);
        self.node(OpType::Reshape, vec![name.to_owned(), target], vec![])
    }

    /// Adds a constant of integers and returns its name.
    pub(super) fn integers(&mut self, values: Vec<i64>) -> String {
        if let Some(name) = self.integers.get(&values) {
            return name.clone();
        }
        let name = format!("{GENERATED_PREFIX}c{}", self.constants.len());
        let (sizes, numbers) = (vec![values.len()], Numbers::Integers(values.clone()));
        self.constants.push(Constant { name: name.clone(), sizes, numbers });
        self.integers.insert(values, name.clone());
        name
    }

    /// Adds a constant of one number and returns its name.
    pub(super) fn number(&mut self, value: f32) -> String {
        let name = format!("{GENERATED_PREFIX}c{}", self.constants.len());
        self.constants.push(Constant { name: name.clone(), sizes: vec![], numbers: Numbers::Floats(vec![value]) });
        name
    }

    /// Adds a constant of the TensorFlow Lite file with this shape, stored in this order. Returns its name.
    pub(super) fn floats(&mut self, tensor: usize, shape: &[usize], order: &[usize]) -> Result<String, String> {
        let key = (tensor, shape.to_vec(), order.to_vec());
        if let Some(name) = self.floats.get(&key) {
            return Ok(name.clone());
        }
        let values = self.read_floats(tensor)?;
        self.numbers += values.len();
        if self.numbers > MAX_NUMBERS {
            return Err(format!("the constants have more than {MAX_NUMBERS} numbers"));
        }
        let numbers = Numbers::Floats(reorder(&values, shape, order));
        let name = format!("{GENERATED_PREFIX}c{}", self.constants.len());
        self.constants.push(Constant { name: name.clone(), sizes: stored(shape, order), numbers });
        self.floats.insert(key, name.clone());
        Ok(name)
    }

    fn read_floats(&self, tensor: usize) -> Result<Vec<f32>, String> {
        let Tensor { data, kind, name, .. } = self.tensor(tensor);
        match kind {
            Kind::Float32 => Ok(data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()),
            Kind::Float16 => Ok(data.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect()),
            other => Err(format!("the constant {name:?} is {other:?}, not of floats")),
        }
    }

    /// Reads a constant of at most `max` integers from the TensorFlow Lite file.
    pub(super) fn read_integers(&self, tensor: usize, max: usize) -> Result<Vec<i64>, String> {
        let Tensor { data, kind, name, shape, .. } = self.tensor(tensor);
        if shape.iter().product::<usize>() > max {
            return Err(format!("the constant {name:?} has more than {max} numbers"));
        }
        match kind {
            Kind::Int32 => Ok(data.as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes).into()).collect()),
            Kind::Int64 => Ok(data.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()),
            other => Err(format!("the constant {name:?} is {other:?}, not of integers")),
        }
    }
}
