//! Converts each TensorFlow Lite operator to ONNX operators.

mod convolution;
mod elementwise;
mod shape;

use super::ConvertError;
use super::flatbuffer::Table;
use super::graph::{Builder, Operand, Value};
use super::schema::{Kind, Operator};

/// Adds an operator to the ONNX graph. The error is the reason why that is impossible.
pub(super) fn convert(builder: &mut Builder<'_>, operator: &Operator<'_>) -> Result<(), String> {
    use elementwise::Binary;
    let [output] = operator.outputs[..] else {
        return Err(format!("it has {} outputs, not one", operator.outputs.len()));
    };
    // These are the numbers of `BuiltinOperator` in the schema.
    let value = match operator.code {
        6 => return dequantize(builder, operator, output),
        0 => elementwise::binary(builder, operator, &Binary::ADD)?,
        41 => elementwise::binary(builder, operator, &Binary::SUB)?,
        18 => elementwise::binary(builder, operator, &Binary::MUL)?,
        42 => elementwise::binary(builder, operator, &Binary::DIV)?,
        99 => elementwise::binary(builder, operator, &Binary::SQUARED_DIFFERENCE)?,
        54 => elementwise::prelu(builder, operator)?,
        14 | 19 | 21 | 59 | 75 | 76 => elementwise::unary(builder, operator)?,
        3 => convolution::convolution(builder, operator)?,
        4 => convolution::depthwise(builder, operator)?,
        17 => convolution::max_pool(builder, operator)?,
        2 => shape::concatenation(builder, operator)?,
        22 => shape::reshape(builder, operator)?,
        34 => shape::pad(builder, operator)?,
        39 => shape::transpose(builder, operator)?,
        40 | 74 => shape::reduce(builder, operator)?,
        45 => shape::strided_slice(builder, operator)?,
        _ => return Err("the converter does not support this operator".to_owned()),
    };
    builder.set(output, Operand::Value(value))
}

/// Turns weights of 16-bit floats into constants of 32-bit floats.
fn dequantize(builder: &mut Builder<'_>, operator: &Operator<'_>, output: usize) -> Result<(), String> {
    inputs(operator, 1..=1)?;
    let constant = builder.constant(operator.inputs.first())?;
    match builder.tensor(constant).kind {
        Kind::Float16 => builder.set(output, Operand::Constant(constant)),
        other => Err(format!("it converts {other:?} to floats, but only Float16 is supported")),
    }
}

/// Checks how many inputs an operator has.
fn inputs(operator: &Operator<'_>, expected: std::ops::RangeInclusive<usize>) -> Result<(), String> {
    if expected.contains(&operator.inputs.len()) {
        return Ok(());
    }
    Err(format!("it has {} inputs", operator.inputs.len()))
}

/// The options of an operator, by field number. An absent field has the schema's default.
struct Options<'a>(Option<Table<'a>>);

impl<'a> Options<'a> {
    /// `kind` is the number of the options' table in `BuiltinOptions` of the schema.
    fn of(operator: &Operator<'a>, kind: u8) -> Result<Self, String> {
        match operator.options_kind {
            0 => Ok(Self(None)),
            found if found == kind => Ok(Self(operator.options)),
            found => Err(format!("it has options of the kind {found}, not {kind}")),
        }
    }

    fn int(&self, field: usize, default: i32) -> Result<i32, String> {
        let read = self.0.map(|table| table.i32(field)).transpose();
        Ok(read.map_err(|error: ConvertError| error.to_string())?.flatten().unwrap_or(default))
    }

    fn byte(&self, field: usize) -> Result<u8, String> {
        let read = self.0.map(|table| table.u8(field)).transpose();
        Ok(read.map_err(|error: ConvertError| error.to_string())?.flatten().unwrap_or(0))
    }

    fn numbers(&self, field: usize, max: usize) -> Result<Vec<i64>, String> {
        let read = self.0.map(|table| table.numbers(field, max)).transpose();
        let numbers = read.map_err(|error: ConvertError| error.to_string())?.unwrap_or_default();
        Ok(numbers.into_iter().map(i64::from).collect())
    }

    /// Reads a number that must not be negative.
    fn size(&self, field: usize, default: i32) -> Result<usize, String> {
        let value = self.int(field, default)?;
        usize::try_from(value).map_err(|_| format!("its option {field} is {value}"))
    }
}

/// Adds the activation function that is part of an operator.
fn activate(builder: &mut Builder<'_>, kind: u8, value: Value) -> Result<Value, String> {
    use onnx_rs::ast::OpType;
    let name = match kind {
        0 => return Ok(value),
        1 => builder.node(OpType::Relu, vec![value.name.clone()], vec![]),
        3 => relu6(builder, &value),
        other => return Err(format!("its activation {other} is not supported ({})", activation_name(other))),
    };
    Ok(Value { name, ..value })
}

fn relu6(builder: &mut Builder<'_>, value: &Value) -> String {
    let (low, high) = (builder.number(0.0), builder.number(6.0));
    builder.node(onnx_rs::ast::OpType::Clip, vec![value.name.clone(), low, high], vec![])
}

const fn activation_name(kind: u8) -> &'static str {
    match kind {
        2 => "RELU_N1_TO_1",
        4 => "TANH",
        5 => "SIGN_BIT",
        _ => "not in the schema",
    }
}
