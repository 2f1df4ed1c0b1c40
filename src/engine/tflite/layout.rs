//! The order in which the axes of a tensor are stored.

/// `order[k]` is the axis of TensorFlow Lite's tensor that is stored as axis k.
pub(super) type Order = Vec<usize>;

/// ONNX's order for pictures: batch, channels, height, width. TensorFlow Lite has batch, height, width, channels.
pub(super) const CHANNELS_FIRST: [usize; 4] = [0, 3, 1, 2];

/// TensorFlow Lite's order.
pub(super) fn tflite_order(axes: usize) -> Order {
    (0..axes).collect()
}

/// Returns the shape as it is stored.
pub(super) fn stored(shape: &[usize], order: &[usize]) -> Vec<usize> {
    order.iter().map(|axis| shape[*axis]).collect()
}

/// Returns the position at which an axis is stored.
pub(super) fn position(order: &[usize], axis: usize) -> usize {
    order.iter().position(|stored| *stored == axis).unwrap_or(axis)
}

/// Removes axes from an order.
pub(super) fn without(order: &[usize], gone: &[usize]) -> Order {
    let left = order.iter().filter(|axis| !gone.contains(axis));
    left.map(|axis| axis - gone.iter().filter(|gone| *gone < axis).count()).collect()
}

/// Whether the values are stored in the same sequence in both orders. The position of an axis of size 1 does not
/// matter. With `dynamic_batch`, the first axis may be longer than in `shape`.
pub(super) fn is_same_sequence(shape: &[usize], dynamic_batch: bool, one: &[usize], other: &[usize]) -> bool {
    let matters = |axis: &&usize| shape[**axis] != 1 || (dynamic_batch && **axis == 0);
    one.iter().filter(matters).eq(other.iter().filter(matters))
}

/// Copies the values of a tensor from TensorFlow Lite's order to another.
pub(super) fn reorder<T: Copy>(values: &[T], shape: &[usize], order: &[usize]) -> Vec<T> {
    let mut steps = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        steps[axis - 1] = steps[axis] * shape[axis];
    }
    let (sizes, steps) = (stored(shape, order), stored(&steps, order));
    let mut index = vec![0; sizes.len()];
    let mut out = Vec::with_capacity(values.len());
    let mut at = 0;
    for _ in 0..values.len() {
        out.push(values[at]);
        for axis in (0..sizes.len()).rev() {
            index[axis] += 1;
            at += steps[axis];
            if index[axis] < sizes[axis] {
                break;
            }
            at -= steps[axis] * sizes[axis];
            index[axis] = 0;
        }
    }
    out
}

/// Returns the shape of an element-wise operation on two tensors. `None` if their shapes are not compatible.
pub(super) fn broadcast(one: &[usize], other: &[usize]) -> Option<Vec<usize>> {
    let axes = one.len().max(other.len());
    let size = |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(axes).map_or(1, |axis| shape[axis]);
    let both = |axis| match (size(one, axis), size(other, axis)) {
        (a, b) if a == b || b == 1 => Some(a),
        (1, b) => Some(b),
        _ => None,
    };
    (0..axes).map(both).collect()
}

/// A window that moves over one axis: the padding before and after the axis by TensorFlow Lite's `SAME` or `VALID`, and
/// the size of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) before: usize,
    pub(super) after: usize,
    pub(super) output: usize,
}

impl Window {
    /// Returns `None` if no window fits or a size is 0.
    pub(super) fn of(input: usize, kernel: usize, stride: usize, dilation: usize, is_same: bool) -> Option<Self> {
        let reach = kernel.checked_sub(1)?.checked_mul(dilation)?.checked_add(1)?;
        if stride == 0 || dilation == 0 {
            return None;
        }
        if !is_same {
            let output = input.checked_sub(reach)? / stride + 1;
            return Some(Self { before: 0, after: 0, output });
        }
        let output = input.div_ceil(stride);
        let padding = (output.checked_sub(1)? * stride).checked_add(reach)?.saturating_sub(input);
        // If the padding is odd, the larger half comes after the axis.
        Some(Self { before: padding / 2, after: padding - padding / 2, output })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_computed_as_in_tensorflow() {
        let window = |input, kernel, stride, dilation, is_same| {
            Window::of(input, kernel, stride, dilation, is_same).map(|w| (w.before, w.after, w.output))
        };
        assert_eq!(window(256, 3, 2, 1, true), Some((0, 1, 128)));
        assert_eq!(window(128, 3, 1, 1, true), Some((1, 1, 128)));
        assert_eq!(window(5, 3, 2, 1, true), Some((1, 1, 3)));
        assert_eq!(window(5, 2, 2, 1, true), Some((0, 1, 3)));
        assert_eq!(window(5, 1, 2, 1, true), Some((0, 0, 3)));
        assert_eq!(window(7, 3, 1, 2, true), Some((2, 2, 7)));
        assert_eq!(window(5, 2, 2, 1, false), Some((0, 0, 2)));
        assert_eq!(window(2, 3, 1, 1, false), None);
        for (kernel, stride, dilation) in [(0, 1, 1), (1, 0, 1), (1, 1, 0), (usize::MAX, 1, 2)] {
            assert_eq!(window(5, kernel, stride, dilation, true), None);
        }
    }

    #[test]
    fn values_are_reordered_and_equal_sequences_recognized() {
        // Two rows of three columns become three rows of two.
        assert_eq!(reorder(&[1, 2, 3, 4, 5, 6], &[2, 3], &[1, 0]), [1, 4, 2, 5, 3, 6]);
        assert_eq!(reorder(&[7], &[], &[]), [7]);
        let values: Vec<usize> = (0..24).collect();
        let transposed = reorder(&values, &[1, 2, 3, 4], &CHANNELS_FIRST);
        assert_eq!((transposed[0], transposed[1], transposed[6], transposed[23]), (0, 4, 1, 23));
        assert!(is_same_sequence(&[1, 1, 1, 9], true, &CHANNELS_FIRST, &tflite_order(4)));
        assert!(!is_same_sequence(&[1, 1, 2, 9], false, &CHANNELS_FIRST, &tflite_order(4)));
        assert!(!is_same_sequence(&[1, 9], true, &[1, 0], &[0, 1]), "the batch is not 1");
        assert_eq!(without(&CHANNELS_FIRST, &[1]), [0, 2, 1]);
    }

    #[test]
    fn shapes_are_broadcast_as_in_numpy() {
        assert_eq!(broadcast(&[1, 4, 1], &[3]), Some(vec![1, 4, 3]));
        assert_eq!(broadcast(&[], &[2, 2]), Some(vec![2, 2]));
        assert_eq!(broadcast(&[2], &[3]), None);
    }
}
