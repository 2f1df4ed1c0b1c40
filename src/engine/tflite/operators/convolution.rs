//! Operators with a window that moves over a picture: convolutions and pooling.

use onnx_rs::ast::OpType;

use super::super::graph::{AttributeValue, Attributes, Builder, Value};
use super::super::layout::{CHANNELS_FIRST, Window};
use super::super::schema::Operator;
use super::{Options, activate, inputs};

/// Size and steps of a window, each for height and width.
struct Sliding {
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
}

impl Sliding {
    /// Returns the windows over a picture of this size, and the corresponding ONNX attributes.
    fn over(&self, height: usize, width: usize, padding: u8) -> Result<([Window; 2], Attributes), String> {
        let is_same = match padding {
            0 => true,
            1 => false,
            other => return Err(format!("its padding {other} is neither SAME nor VALID")),
        };
        let Self { kernel, stride, dilation } = self;
        let window = |axis: usize, input| {
            Window::of(input, kernel[axis], stride[axis], dilation[axis], is_same)
                .ok_or_else(|| format!("no window of {} in steps of {} fits {input}", kernel[axis], stride[axis]))
        };
        let [vertical, horizontal] = [window(0, height)?, window(1, width)?];
        let ints = |values: &[usize]| AttributeValue::Ints(values.iter().map(|value| *value as i64).collect());
        let pads = [vertical.before, horizontal.before, vertical.after, horizontal.after];
        let mut attributes = vec![("kernel_shape", ints(kernel)), ("strides", ints(stride)), ("pads", ints(&pads))];
        if *dilation != [1, 1] {
            attributes.push(("dilations", ints(dilation)));
        }
        Ok(([vertical, horizontal], attributes))
    }
}

/// Returns the input of an operator on pictures, and its height, width and channels.
fn picture(builder: &Builder<'_>, operator: &Operator<'_>) -> Result<(Value, [usize; 3]), String> {
    let value = builder.value(operator.inputs.first())?;
    match value.shape[..] {
        [_, height, width, channels] => Ok((value, [height, width, channels])),
        _ => Err(format!("its input of {:?} is not a picture", value.shape)),
    }
}

pub(super) fn convolution(builder: &mut Builder<'_>, operator: &Operator<'_>) -> Result<Value, String> {
    let options = Options::of(operator, 1)?;
    let (value, [_, _, channels]) = picture(builder, operator)?;
    let weights = builder.constant(operator.inputs.get(1))?;
    let shape = builder.tensor(weights).shape.clone();
    let [outputs, height, width, each] = shape[..] else {
        return Err(format!("its weights have the sizes {shape:?}"));
    };
    if !channels.is_multiple_of(each) || !outputs.is_multiple_of(channels / each) {
        return Err(format!("its weights of {shape:?} do not fit {channels} channels"));
    }
    let sliding = Sliding {
        kernel: [height, width],
        stride: [options.size(2, 0)?, options.size(1, 0)?],
        dilation: [options.size(5, 1)?, options.size(4, 1)?],
    };
    let weights = builder.floats(weights, &shape, &CHANNELS_FIRST)?;
    let convolved = Convolved { weights, outputs, groups: channels / each };
    convolve(builder, operator, &value, &sliding, convolved, [options.byte(0)?, options.byte(3)?])
}

pub(super) fn depthwise(builder: &mut Builder<'_>, operator: &Operator<'_>) -> Result<Value, String> {
    let options = Options::of(operator, 2)?;
    let (value, [_, _, channels]) = picture(builder, operator)?;
    let weights = builder.constant(operator.inputs.get(1))?;
    let shape = builder.tensor(weights).shape.clone();
    let [1, height, width, outputs] = shape[..] else {
        return Err(format!("its weights have the sizes {shape:?}"));
    };
    if !outputs.is_multiple_of(channels) {
        return Err(format!("its weights of {shape:?} do not fit {channels} channels"));
    }
    let sliding = Sliding {
        kernel: [height, width],
        stride: [options.size(2, 0)?, options.size(1, 0)?],
        dilation: [options.size(6, 1)?, options.size(5, 1)?],
    };
    // The axes of weights in ONNX: outputs, inputs per group, height, width.
    let weights = builder.floats(weights, &shape, &[3, 0, 1, 2])?;
    let convolved = Convolved { weights, outputs, groups: channels };
    convolve(builder, operator, &value, &sliding, convolved, [options.byte(0)?, options.byte(4)?])
}

struct Convolved {
    weights: String,
    outputs: usize,
    groups: usize,
}

fn convolve(
    builder: &mut Builder<'_>,
    operator: &Operator<'_>,
    value: &Value,
    sliding: &Sliding,
    convolved: Convolved,
    [padding, activation]: [u8; 2],
) -> Result<Value, String> {
    inputs(operator, 2..=3)?;
    let Convolved { weights, outputs, groups } = convolved;
    let ([vertical, horizontal], mut attributes) = sliding.over(value.shape[1], value.shape[2], padding)?;
    attributes.push(("group", AttributeValue::Int(groups as i64)));
    let mut names = vec![builder.in_order(value, &CHANNELS_FIRST), weights];
    if let Some(Some(_)) = operator.inputs.get(2) {
        let bias = builder.constant(operator.inputs.get(2))?;
        let sizes = builder.tensor(bias).shape.clone();
        if sizes != [outputs] {
            return Err(format!("its bias has the sizes {sizes:?}, with {outputs} outputs"));
        }
        names.push(builder.floats(bias, &sizes, &[0])?);
    }
    let name = builder.node(OpType::Conv, names, attributes);
    let shape = vec![value.shape[0], vertical.output, horizontal.output, outputs];
    activate(
        builder,
        activation,
        Value { name, shape, order: CHANNELS_FIRST.to_vec(), dynamic_batch: value.dynamic_batch },
    )
}

pub(super) fn max_pool(builder: &mut Builder<'_>, operator: &Operator<'_>) -> Result<Value, String> {
    inputs(operator, 1..=1)?;
    let options = Options::of(operator, 5)?;
    let (value, [height, width, channels]) = picture(builder, operator)?;
    let sliding = Sliding {
        kernel: [options.size(4, 0)?, options.size(3, 0)?],
        stride: [options.size(2, 0)?, options.size(1, 0)?],
        dilation: [1, 1],
    };
    let ([vertical, horizontal], attributes) = sliding.over(height, width, options.byte(0)?)?;
    let input = builder.in_order(&value, &CHANNELS_FIRST);
    let name = builder.node(OpType::MaxPool, vec![input], attributes);
    let shape = vec![value.shape[0], vertical.output, horizontal.output, channels];
    activate(
        builder,
        options.byte(5)?,
        Value { name, shape, order: CHANNELS_FIRST.to_vec(), dynamic_batch: value.dynamic_batch },
    )
}
