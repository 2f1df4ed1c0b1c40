//! In which order the axes of a tensor are stored.

/// `order[k]` is the axis of TensorFlow Lite's tensor that is stored as axis k.
pub(super) type Order = Vec<usize>;

/// Batch, channels, height, width, of TensorFlow Lite's batch, height, width, channels.
pub(super) const CHANNELS_FIRST: [usize; 4] = [0, 3, 1, 2];

/// As TensorFlow Lite has it.
pub(super) fn plain(axes: usize) -> Order {
    (0..axes).collect()
}

/// The sizes as they are stored.
pub(super) fn stored(shape: &[usize], order: &[usize]) -> Vec<usize> {
    order.iter().map(|axis| shape[*axis]).collect()
}

/// Where an axis is stored.
pub(super) fn place(order: &[usize], axis: usize) -> usize {
    order.iter().position(|stored| *stored == axis).unwrap_or(axis)
}

/// The order that is left when axes are taken out.
pub(super) fn without(order: &[usize], gone: &[usize]) -> Order {
    let left = order.iter().filter(|axis| !gone.contains(axis));
    left.map(|axis| axis - gone.iter().filter(|gone| *gone < axis).count()).collect()
}

/// Whether the numbers lie in the same sequence in both orders: axes of size 1 may stand anywhere. The axes `open` are longer
/// than `shape` says.
pub(super) fn is_same_sequence(shape: &[usize], open: bool, one: &[usize], other: &[usize]) -> bool {
    let matters = |axis: &&usize| shape[**axis] != 1 || (open && **axis == 0);
    one.iter().filter(matters).eq(other.iter().filter(matters))
}

/// The values of a tensor that is stored as TensorFlow Lite has it, in another order.
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

/// The sizes of two tensors that are computed with element by element; `None` where they do not fit.
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

/// How far a window moves over one axis: what TensorFlow Lite's `SAME` or `VALID` puts around the axis, and what comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) before: usize,
    pub(super) behind: usize,
    pub(super) output: usize,
}

impl Window {
    /// `None` where no window fits, or where a size is 0.
    pub(super) fn of(input: usize, kernel: usize, stride: usize, dilation: usize, is_same: bool) -> Option<Self> {
        let reach = kernel.checked_sub(1)?.checked_mul(dilation)?.checked_add(1)?;
        if stride == 0 || dilation == 0 {
            return None;
        }
        if !is_same {
            let output = input.checked_sub(reach)? / stride + 1;
            return Some(Self { before: 0, behind: 0, output });
        }
        let output = input.div_ceil(stride);
        let around = (output.checked_sub(1)? * stride).checked_add(reach)?.saturating_sub(input);
        // Where it is odd, the larger half lies behind.
        Some(Self { before: around / 2, behind: around - around / 2, output })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_those_of_tensorflow() {
        let window = |input, kernel, stride, dilation, is_same| {
            Window::of(input, kernel, stride, dilation, is_same).map(|w| (w.before, w.behind, w.output))
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
    fn weights_are_turned_and_orders_told_apart() {
        // Two rows of three columns become three rows of two.
        assert_eq!(reorder(&[1, 2, 3, 4, 5, 6], &[2, 3], &[1, 0]), [1, 4, 2, 5, 3, 6]);
        assert_eq!(reorder(&[7], &[], &[]), [7]);
        let values: Vec<usize> = (0..24).collect();
        let turned = reorder(&values, &[1, 2, 3, 4], &CHANNELS_FIRST);
        assert_eq!((turned[0], turned[1], turned[6], turned[23]), (0, 4, 1, 23));
        assert!(is_same_sequence(&[1, 1, 1, 9], true, &CHANNELS_FIRST, &plain(4)));
        assert!(!is_same_sequence(&[1, 1, 2, 9], false, &CHANNELS_FIRST, &plain(4)));
        assert!(!is_same_sequence(&[1, 9], true, &[1, 0], &[0, 1]), "the batch is not 1");
        assert_eq!(without(&CHANNELS_FIRST, &[1]), [0, 2, 1]);
    }

    #[test]
    fn sizes_meet_as_in_numpy() {
        assert_eq!(broadcast(&[1, 4, 1], &[3]), Some(vec![1, 4, 3]));
        assert_eq!(broadcast(&[], &[2, 2]), Some(vec![2, 2]));
        assert_eq!(broadcast(&[2], &[3]), None);
    }
}
