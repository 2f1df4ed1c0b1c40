//! Element-wise operators.

use onnx_rs::ast::OpType;

use super::super::graph::{Builder, Operand, Value};
use super::super::layout::{Order, broadcast};
use super::super::schema::Operator;
use super::{Options, activate, inputs, relu6};

/// An element-wise operator with two inputs.
pub(super) struct Binary {
    op: OpType<'static>,
    /// Type of its options table in the schema.
    options: Option<u8>,
    squares: bool,
}

impl Binary {
    pub(super) const ADD: Self = Self { op: OpType::Add, options: Some(11), squares: false };
    pub(super) const SUB: Self = Self { op: OpType::Sub, options: Some(28), squares: false };
    pub(super) const MUL: Self = Self { op: OpType::Mul, options: Some(21), squares: false };
    pub(super) const DIV: Self = Self { op: OpType::Div, options: Some(29), squares: false };
    pub(super) const SQUARED_DIFFERENCE: Self = Self { op: OpType::Sub, options: None, squares: true };
}

pub(super) fn binary(builder: &mut Builder<'_>, operator: &Operator<'_>, kind: &Binary) -> Result<Value, String> {
    inputs(operator, 2..=2)?;
    let activation = match kind.options {
        Some(options) => Options::of(operator, options)?.byte(0)?,
        None => 0,
    };
    let operands = [builder.operand(operator.inputs.first())?, builder.operand(operator.inputs.get(1))?];
    let sizes = |operand: &Operand| match operand {
        Operand::Value(value) => value.shape.clone(),
        Operand::Constant(tensor) => builder.tensor(*tensor).shape.clone(),
    };
    let [one, other] = operands.each_ref().map(sizes);
    let shape = broadcast(&one, &other).ok_or_else(|| format!("its inputs of {one:?} and {other:?} do not fit"))?;
    // The output has the order of the first computed input with all axes. The other input is brought to the same order.
    let leading = operands.iter().find_map(|operand| match operand {
        Operand::Value(value) if value.shape.len() == shape.len() => Some(value.clone()),
        _ => None,
    });
    let leading = leading.ok_or("no computed input has as many axes as the output")?;
    let order = leading.order;
    let mut dynamic_batch = false;
    let mut names = Vec::with_capacity(2);
    for operand in operands {
        names.push(match operand {
            Operand::Value(value) if value.shape.len() == shape.len() => {
                dynamic_batch |= value.dynamic_batch;
                builder.in_order(&value, &order)
            }
            Operand::Value(value) => {
                return Err(format!("its inputs have {} and {} axes", value.shape.len(), shape.len()));
            }
            Operand::Constant(tensor) => constant(builder, tensor, &order)?,
        });
    }
    let mut name = builder.node(kind.op.clone(), names, vec![]);
    if kind.squares {
        name = builder.node(OpType::Mul, vec![name.clone(), name], vec![]);
    }
    activate(builder, activation, Value { name, shape, order, dynamic_batch })
}

/// Adds a constant operand of an element-wise operator. It gets leading axes of size 1, so that it has as many axes as
/// the other input, and the same order. A single number needs neither.
fn constant(builder: &mut Builder<'_>, tensor: usize, order: &Order) -> Result<String, String> {
    let shape = &builder.tensor(tensor).shape;
    if shape.iter().all(|size| *size == 1) {
        return builder.floats(tensor, &[], &[]);
    }
    let front = order.len().checked_sub(shape.len()).ok_or("a constant has more axes than the output")?;
    let shape: Vec<usize> = std::iter::repeat_n(1, front).chain(shape.iter().copied()).collect();
    builder.floats(tensor, &shape, order)
}

/// Converts `PRELU` with one slope per channel or per value.
pub(super) fn prelu(builder: &mut Builder<'_>, operator: &Operator<'_>) -> Result<Value, String> {
    inputs(operator, 2..=2)?;
    let value = builder.value(operator.inputs.first())?;
    let slopes = builder.constant(operator.inputs.get(1))?;
    let sizes = &builder.tensor(slopes).shape;
    if broadcast(&value.shape, sizes).as_deref() != Some(&value.shape) {
        return Err(format!("its slopes of {sizes:?} do not fit an input of {:?}", value.shape));
    }
    let slopes = constant(builder, slopes, &value.order)?;
    let name = builder.node(OpType::PRelu, vec![value.name.clone(), slopes], vec![]);
    Ok(Value { name, ..value })
}

/// Converts an operator with one input and no options.
pub(super) fn unary(builder: &mut Builder<'_>, operator: &Operator<'_>) -> Result<Value, String> {
    inputs(operator, 1..=1)?;
    let value = builder.value(operator.inputs.first())?;
    let mut apply = |op, name: &str| builder.node(op, vec![name.to_owned()], vec![]);
    let name = match operator.code {
        14 => apply(OpType::Sigmoid, &value.name),
        19 => apply(OpType::Relu, &value.name),
        59 => apply(OpType::Neg, &value.name),
        75 => apply(OpType::Sqrt, &value.name),
        76 => {
            let root = apply(OpType::Sqrt, &value.name);
            apply(OpType::Reciprocal, &root)
        }
        _ => relu6(builder, &value),
    };
    Ok(Value { name, ..value })
}
