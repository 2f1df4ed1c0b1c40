//! Writes small TensorFlow Lite files with the crate `flatbuffers`.

use flatbuffers::{FlatBufferBuilder, WIPOffset};

pub(super) const FLOAT32: i8 = 0;
pub(super) const FLOAT16: i8 = 1;
pub(super) const INT32: i8 = 2;
pub(super) const INT8: i8 = 9;

/// A tensor of the file.
#[derive(Clone)]
pub(super) struct TestTensor {
    pub(super) name: String,
    pub(super) kind: i8,
    pub(super) shape: Vec<i32>,
    pub(super) signature: Vec<i32>,
    pub(super) data: Vec<u8>,
}

/// A field of an operator's options: its number and its value.
#[derive(Clone, Copy)]
pub(super) enum Field {
    Int(u16, i32),
    Byte(u16, u8),
    /// The value is a vector of two ints.
    Pair(u16, [i32; 2]),
}
pub(super) use Field::{Byte, Int, Pair};

pub(super) struct TestOperator {
    pub(super) code: i32,
    pub(super) inputs: Vec<i32>,
    pub(super) outputs: Vec<i32>,
    pub(super) options: (u8, Vec<Field>),
}

/// A file that is being written.
#[derive(Default)]
pub(super) struct File {
    pub(super) tensors: Vec<TestTensor>,
    pub(super) operators: Vec<TestOperator>,
    pub(super) inputs: Vec<i32>,
    pub(super) outputs: Vec<i32>,
}

impl File {
    pub(super) fn tensor(&mut self, name: &str, kind: i8, shape: &[i32], data: Vec<u8>) -> i32 {
        let (name, shape, signature) = (name.to_owned(), shape.to_vec(), Vec::new());
        self.tensors.push(TestTensor { name, kind, shape, signature, data });
        self.tensors.len() as i32 - 1
    }

    pub(super) fn input(&mut self, shape: &[i32]) -> i32 {
        let tensor = self.tensor(&format!("in{}", self.inputs.len()), FLOAT32, shape, Vec::new());
        self.inputs.push(tensor);
        tensor
    }

    /// Adds an input whose first axis is a batch of any size.
    pub(super) fn rows(&mut self, shape: &[i32]) -> i32 {
        let tensor = self.input(shape);
        self.tensors[tensor as usize].signature = [&[-1], &shape[1..]].concat();
        tensor
    }

    pub(super) fn floats(&mut self, shape: &[i32], values: &[f32]) -> i32 {
        self.tensor("constant", FLOAT32, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    pub(super) fn integers(&mut self, values: &[i32]) -> i32 {
        let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensor("numbers", INT32, &[values.len() as i32], data)
    }

    /// Adds an operator with one output of this shape, and returns the output.
    pub(super) fn operator(&mut self, code: i32, inputs: &[i32], shape: &[i32], options: (u8, Vec<Field>)) -> i32 {
        let output = self.tensor(&format!("computed {}", self.operators.len()), FLOAT32, shape, Vec::new());
        self.operators.push(TestOperator { code, inputs: inputs.to_vec(), outputs: vec![output], options });
        output
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let mut b = FlatBufferBuilder::new();
        let mut codes = Vec::new();
        let mut operators = Vec::new();
        for (n, operator) in self.operators.iter().enumerate() {
            let start = b.start_table();
            b.push_slot_always(4, operator.code.min(127) as i8);
            b.push_slot_always(10, operator.code);
            codes.push(b.end_table(start));
            let pairs = operator.options.1.iter().map(|field| match field {
                Pair(_, values) => Some(b.create_vector(values)),
                _ => None,
            });
            let pairs: Vec<_> = pairs.collect();
            let start = b.start_table();
            for (field, pair) in operator.options.1.iter().zip(pairs) {
                match (*field, pair) {
                    (Int(number, value), _) => b.push_slot_always(4 + 2 * number, value),
                    (Byte(number, value), _) => b.push_slot_always(4 + 2 * number, value),
                    (Pair(number, _), Some(pair)) => b.push_slot_always(4 + 2 * number, pair),
                    (Pair(..), None) => unreachable!(),
                }
            }
            let options = b.end_table(start);
            let (inputs, outputs) = (b.create_vector(&operator.inputs), b.create_vector(&operator.outputs));
            let start = b.start_table();
            b.push_slot_always(4, n as u32);
            b.push_slot_always(6, inputs);
            b.push_slot_always(8, outputs);
            b.push_slot_always(10, operator.options.0);
            if operator.options.0 != 0 {
                b.push_slot_always(12, options);
            }
            operators.push(b.end_table(start));
        }
        let mut buffers = Vec::new();
        let mut tensors = Vec::new();
        for (n, tensor) in self.tensors.iter().enumerate() {
            let data = b.create_vector(&tensor.data);
            let start = b.start_table();
            if !tensor.data.is_empty() {
                b.push_slot_always(4, data);
            }
            buffers.push(b.end_table(start));
            let (shape, name) = (b.create_vector(&tensor.shape), b.create_string(&tensor.name));
            let signature = b.create_vector(&tensor.signature);
            let start = b.start_table();
            b.push_slot_always(4, shape);
            b.push_slot_always(6, tensor.kind);
            b.push_slot_always(8, n as u32);
            b.push_slot_always(10, name);
            if !tensor.signature.is_empty() {
                b.push_slot_always(18, signature);
            }
            tensors.push(b.end_table(start));
        }
        let (tensors, operators) = (b.create_vector(&tensors), b.create_vector(&operators));
        let (inputs, outputs) = (b.create_vector(&self.inputs), b.create_vector(&self.outputs));
        let start = b.start_table();
        b.push_slot_always(4, tensors);
        b.push_slot_always(6, inputs);
        b.push_slot_always(8, outputs);
        b.push_slot_always(10, operators);
        let graph: WIPOffset<_> = b.end_table(start);
        let (graphs, codes, buffers) = (b.create_vector(&[graph]), b.create_vector(&codes), b.create_vector(&buffers));
        let start = b.start_table();
        b.push_slot_always(4, 3u32);
        b.push_slot_always(6, codes);
        b.push_slot_always(8, graphs);
        b.push_slot_always(12, buffers);
        let model = b.end_table(start);
        b.finish(model, Some("TFL3"));
        b.finished_data().to_vec()
    }
}
