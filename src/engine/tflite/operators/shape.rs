//! Operators that move values or change the axes of a tensor.

use onnx_rs::ast::OpType;

use super::super::graph::{AttributeValue, Builder, Operand, Value};
use super::super::layout::{position, tflite_order, without};
use super::super::schema::Operator;
use super::{Options, activate, inputs};

/// Maximum number of values in a constant that lists sizes or axes.
const MAX_AXES: usize = 16;

/// Resolves the number of an axis. A negative number counts from the last axis.
fn axis(number: i64, axes: usize) -> Result<usize, String> {
    let from_start = if number < 0 { number + axes as i64 } else { number };
    let axis = usize::try_from(from_start).ok().filter(|axis| *axis < axes);
    axis.ok_or_else(|| format!("there is no axis {number} of {axes}"))
}

pub(super) fn concatenation(builder: &mut Builder<'_>, operator: &Operator<'_>) -> Result<Value, String> {
    let options = Options::of(operator, 10)?;
    let operands = operator.inputs.iter().map(|input| builder.operand(Some(input)));
    let operands = operands.collect::<Result<Vec<_>, _>>()?;
    let leading = operands.iter().find_map(|operand| match operand {
        Operand::Value(value) => Some(value.clone()),
        Operand::Constant(_) => None,
    });
    let Value { mut shape, order, dynamic_batch, .. } = leading.ok_or("none of its inputs is computed")?;
    let axis = axis(options.int(0, 0)?.into(), shape.len())?;
    let mut names = Vec::with_capacity(operands.len());
    let mut length: usize = 0;
    for operand in &operands {
        let (sizes, is_dynamic) = match operand {
            Operand::Value(value) => (value.shape.clone(), value.dynamic_batch),
            Operand::Constant(tensor) => (builder.tensor(*tensor).shape.clone(), false),
        };
        let fits = sizes.len() == shape.len() && (0..shape.len()).all(|n| n == axis || sizes[n] == shape[n]);
        // A constant cannot be joined to a tensor with a batch: it has one row, whatever the size of the batch.
        if !fits || is_dynamic != dynamic_batch || (dynamic_batch && axis == 0) {
            return Err(format!("its inputs of {shape:?} and {sizes:?} cannot be concatenated"));
        }
        length = length.checked_add(sizes[axis]).ok_or("its output is too long")?;
        names.push(match operand {
            Operand::Value(value) => builder.in_order(value, &order),
            Operand::Constant(tensor) => builder.floats(*tensor, &sizes, &order)?,
        });
    }
    shape[axis] = length;
    let stored = position(&order, axis) as i64;
    let name = builder.node(OpType::Concat, names, vec![("axis", AttributeValue::Int(stored))]);
    activate(builder, options.byte(1)?, Value { name, shape, order, dynamic_batch })
}

pub(super) fn reshape(builder: &mut Builder<'_>, operator: &Operator<'_>) -> Result<Value, String> {
    inputs(operator, 1..=2)?;
    let value = builder.value(operator.inputs.first())?;
    // Newer files have the new shape as a second input, older ones in the options.
    let target = match operator.inputs.get(1) {
        Some(input) => builder.read_integers(builder.constant(Some(input))?, MAX_AXES)?,
        None => Options::of(operator, 17)?.numbers(0, MAX_AXES)?,
    };
    let count: usize = value.shape.iter().product();
    let known = target
        .iter()
        .filter(|size| **size >= 0)
        .try_fold(1usize, |all, size| all.checked_mul(usize::try_from(*size).ok()?));
    let rest = known.filter(|known| *known > 0).map(|known| count / known);
    let size = |size: &i64| if *size == -1 { rest } else { usize::try_from(*size).ok() };
    let shape = target.iter().map(size).collect::<Option<Vec<usize>>>();
    let product = |shape: &Vec<usize>| shape.iter().try_fold(1usize, |all, size| all.checked_mul(*size));
    let shape = shape.filter(|shape| product(shape) == Some(count));
    let shape = shape.ok_or_else(|| format!("an input of {:?} cannot be reshaped to {target:?}", value.shape))?;
    if value.dynamic_batch && shape.first() != Some(&1) {
        return Err(format!("it reshapes the batch axis: {:?} to {target:?}", value.shape));
    }
    let name = builder.in_tflite_order(&value, &shape);
    Ok(Value { name, order: tflite_order(shape.len()), shape, dynamic_batch: value.dynamic_batch })
}

pub(super) fn pad(builder: &mut Builder<'_>, operator: &Operator<'_>) -> Result<Value, String> {
    inputs(operator, 2..=2)?;
    let value = builder.value(operator.inputs.first())?;
    let amounts = builder.constant(operator.inputs.get(1))?;
    let amounts = builder.read_integers(amounts, MAX_AXES)?;
    let (pairs, rest) = amounts.as_chunks::<2>();
    let axes = value.shape.len();
    let is_valid = pairs.len() == axes && rest.is_empty() && amounts.iter().all(|amount| (0..1 << 26).contains(amount));
    if !is_valid || (value.dynamic_batch && pairs[0] != [0, 0]) {
        return Err(format!("amounts of {amounts:?} do not fit an input of {:?}", value.shape));
    }
    let grown = value.shape.iter().zip(pairs).map(|(size, [before, after])| size + (before + after) as usize);
    let shape = grown.collect();
    let side = |side: usize| value.order.iter().map(move |axis| pairs[*axis][side]);
    let amounts = builder.integers(side(0).chain(side(1)).collect());
    let name = builder.node(OpType::Pad, vec![value.name.clone(), amounts], vec![]);
    Ok(Value { name, shape, ..value })
}

/// Converts `TRANSPOSE` without adding a node: only the order of the axes changes.
pub(super) fn transpose(builder: &mut Builder<'_>, operator: &Operator<'_>) -> Result<Value, String> {
    inputs(operator, 2..=2)?;
    let value = builder.value(operator.inputs.first())?;
    let order = builder.constant(operator.inputs.get(1))?;
    let order = builder.read_integers(order, MAX_AXES)?;
    let axes = value.shape.len();
    let permutation: Vec<usize> = order.iter().map(|n| axis(*n, axes)).collect::<Result<_, _>>()?;
    let is_valid = permutation.len() == axes && (0..axes).all(|axis| permutation.contains(&axis));
    if !is_valid || (value.dynamic_batch && permutation.first() != Some(&0)) {
        return Err(format!("the axes of {:?} cannot be put in the order {order:?}", value.shape));
    }
    let shape = permutation.iter().map(|axis| value.shape[*axis]).collect();
    let order = value.order.iter().map(|axis| position(&permutation, *axis)).collect();
    Ok(Value { name: value.name, shape, order, dynamic_batch: value.dynamic_batch })
}

/// Converts `MEAN` and `SUM`.
pub(super) fn reduce(builder: &mut Builder<'_>, operator: &Operator<'_>) -> Result<Value, String> {
    const MEAN: usize = 40;
    inputs(operator, 2..=2)?;
    let keeps = Options::of(operator, 27)?.byte(0)? != 0;
    let value = builder.value(operator.inputs.first())?;
    let numbers = builder.constant(operator.inputs.get(1))?;
    let numbers = builder.read_integers(numbers, MAX_AXES)?;
    let mut axes = numbers.iter().map(|n| axis(*n, value.shape.len())).collect::<Result<Vec<_>, _>>()?;
    axes.sort_unstable();
    axes.dedup();
    if axes.is_empty() || (value.dynamic_batch && axes.contains(&0)) {
        return Err(format!("it cannot be computed over the axes {numbers:?} of {:?}", value.shape));
    }
    let mut stored: Vec<i64> = axes.iter().map(|axis| position(&value.order, *axis) as i64).collect();
    stored.sort_unstable();
    let keep = ("keepdims", AttributeValue::Int(keeps.into()));
    let input = value.name.clone();
    // In operator set 17 of ONNX, `ReduceMean` has its axes as an attribute and `ReduceSum` as an input.
    let name = if operator.code == MEAN {
        builder.node(OpType::ReduceMean, vec![input], vec![("axes", AttributeValue::Ints(stored)), keep])
    } else {
        let stored = builder.integers(stored);
        builder.node(OpType::ReduceSum, vec![input, stored], vec![keep])
    };
    let size = |(axis, size): (usize, &usize)| match axes.contains(&axis) {
        true => keeps.then_some(1),
        false => Some(*size),
    };
    let shape = value.shape.iter().enumerate().filter_map(size).collect();
    let order = if keeps { value.order } else { without(&value.order, &axes) };
    Ok(Value { name, shape, order, dynamic_batch: value.dynamic_batch })
}

pub(super) fn strided_slice(builder: &mut Builder<'_>, operator: &Operator<'_>) -> Result<Value, String> {
    inputs(operator, 4..=4)?;
    let options = Options::of(operator, 32)?;
    let [from_start, to_end, ellipsis, new_axes, single] =
        [options.int(0, 0)?, options.int(1, 0)?, options.int(2, 0)?, options.int(3, 0)?, options.int(4, 0)?];
    if ellipsis != 0 || new_axes != 0 || options.byte(5)? != 0 {
        return Err("an ellipsis, new axes and ends relative to the start are not supported".to_owned());
    }
    let value = builder.value(operator.inputs.first())?;
    let axes = value.shape.len();
    let mut numbers = [const { Vec::new() }; 3];
    for (n, numbers) in numbers.iter_mut().enumerate() {
        let constant = builder.constant(operator.inputs.get(n + 1))?;
        *numbers = builder.read_integers(constant, MAX_AXES)?;
        if numbers.len() != axes {
            return Err(format!("it has {} positions for an input with {axes} axes", numbers.len()));
        }
    }
    let [begins, ends, steps] = numbers;
    let (mut shape, mut removed) = (value.shape.clone(), Vec::new());
    // Starts, ends and positions of the axes that are cut.
    let mut cut: [Vec<i64>; 3] = Default::default();
    for n in 0..axes {
        let size = value.shape[n] as i64;
        let is_set = |mask: i32| mask & (1 << n) != 0;
        let whole = |position: i64| if position < 0 { position.saturating_add(size) } else { position }.clamp(0, size);
        let begin = if is_set(from_start) && !is_set(single) { 0 } else { whole(begins[n]) };
        let end = match (is_set(single), is_set(to_end)) {
            (true, _) => begin + 1,
            (false, true) => size,
            (false, false) => whole(ends[n]),
        };
        if steps[n] != 1 || begin >= end || end > size {
            return Err(format!("it selects {begin} to {end} in steps of {} on an axis of {size}", steps[n]));
        }
        if value.dynamic_batch && n == 0 && (end - begin != size || is_set(single)) {
            return Err("it cuts the batch".to_owned());
        }
        shape[n] = (end - begin) as usize;
        if end - begin != size {
            for (list, number) in cut.iter_mut().zip([begin, end, position(&value.order, n) as i64]) {
                list.push(number);
            }
        }
        if is_set(single) {
            removed.push(n);
        }
    }
    let mut name = value.name.clone();
    if !cut[0].is_empty() {
        let numbers = cut.map(|numbers| builder.integers(numbers));
        name = builder.node(OpType::Slice, [name].into_iter().chain(numbers).collect(), vec![]);
    }
    let sliced = Value { name, shape, order: value.order, dynamic_batch: value.dynamic_batch };
    if removed.is_empty() {
        return Ok(sliced);
    }
    let positions = removed.iter().map(|axis| position(&sliced.order, *axis) as i64).collect();
    let positions = builder.integers(positions);
    let name = builder.node(OpType::Squeeze, vec![sliced.name, positions], vec![]);
    let left = (0..axes).filter(|axis| !removed.contains(axis)).map(|axis| sliced.shape[axis]).collect();
    Ok(Value { name, shape: left, order: without(&sliced.order, &removed), dynamic_batch: sliced.dynamic_batch })
}
