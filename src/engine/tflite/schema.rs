//! Reads a TensorFlow Lite file (schema version 3) into plain values. Reads only the tables that the conversion needs.

use super::ConvertError;
use super::flatbuffer::Table;
use super::names::OPERATORS;

// Limits above the numbers of the largest face networks. A file that exceeds one is refused before memory is allocated.
const MAX_TENSORS: usize = 20_000;
const MAX_OPERATORS: usize = 10_000;
const MAX_BUFFERS: usize = 40_000;
const MAX_PORTS: usize = 64;
const MAX_AXES: usize = 6;
const MAX_NUMBERS: u64 = 1 << 26;

/// The only graph of a file.
pub(super) struct Network<'a> {
    pub(super) tensors: Vec<Tensor<'a>>,
    /// Indices of tensors.
    pub(super) inputs: Vec<usize>,
    pub(super) outputs: Vec<usize>,
    pub(super) operators: Vec<Operator<'a>>,
}

pub(super) struct Tensor<'a> {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) shape: Vec<usize>,
    /// Whether the first axis is a batch of any size. It is 1 in `shape`.
    pub(super) has_batch: bool,
    /// The values of a constant; empty for a computed tensor.
    pub(super) data: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Float32,
    Float16,
    Int32,
    Int64,
    /// Another type, by its number in the schema.
    Other(i8),
}

impl Kind {
    const fn of(number: i8) -> Self {
        match number {
            0 => Self::Float32,
            1 => Self::Float16,
            2 => Self::Int32,
            4 => Self::Int64,
            other => Self::Other(other),
        }
    }

    /// Size of a value in bytes; `None` for unsupported types.
    const fn size(self) -> Option<usize> {
        match self {
            Self::Float16 => Some(2),
            Self::Float32 | Self::Int32 => Some(4),
            Self::Int64 => Some(8),
            Self::Other(_) => None,
        }
    }
}

pub(super) struct Operator<'a> {
    /// Number and name in the schema.
    pub(super) code: usize,
    pub(super) name: String,
    /// Indices of tensors; `None` for an optional input that is absent.
    pub(super) inputs: Vec<Option<usize>>,
    pub(super) outputs: Vec<usize>,
    /// Type of the options table (0: none), and that table.
    pub(super) options_kind: u8,
    pub(super) options: Option<Table<'a>>,
}

impl<'a> Network<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, ConvertError> {
        let model = Table::root(bytes, b"TFL3")?;
        if model.u32(0)? != Some(3) {
            return Err(ConvertError::Unsupported(format!("version {} of the format", model.u32(0)?.unwrap_or(0))));
        }
        let codes =
            model.tables(1, OPERATORS.len())?.map(|code| operator_code(&code?)).collect::<Result<Vec<_>, _>>()?;
        let buffers = model.tables(4, MAX_BUFFERS)?.map(|buffer| buffer?.bytes(0)).collect::<Result<Vec<_>, _>>()?;
        let graphs = model.tables(2, MAX_PORTS)?.collect::<Result<Vec<_>, _>>()?;
        let [graph] = graphs[..] else {
            return Err(ConvertError::Unsupported(format!("a file with {} graphs", graphs.len())));
        };
        let tensors = graph.tables(0, MAX_TENSORS)?.map(|tensor| Tensor::read(&tensor?, &buffers));
        let tensors = tensors.collect::<Result<Vec<_>, _>>()?;
        let known = |number: &i32| {
            let index = usize::try_from(*number).ok().filter(|index| *index < tensors.len());
            index.ok_or_else(|| ConvertError::Malformed(format!("there is no tensor {number}")))
        };
        let ports = |field| graph.numbers(field, MAX_PORTS)?.iter().map(known).collect::<Result<Vec<_>, _>>();
        let (inputs, outputs) = (ports(1)?, ports(2)?);
        let operator = |table: Result<Table<'a>, ConvertError>| {
            let table = table?;
            let number = usize::try_from(table.u32(0)?.unwrap_or(0)).unwrap_or(usize::MAX);
            let (code, name) = codes
                .get(number)
                .cloned()
                .ok_or_else(|| ConvertError::Malformed(format!("there is no operator code {number}")))?;
            let inputs = table.numbers(1, MAX_PORTS)?;
            let inputs = inputs.iter().map(|n| if *n == -1 { Ok(None) } else { known(n).map(Some) });
            Ok(Operator {
                code,
                name,
                inputs: inputs.collect::<Result<_, _>>()?,
                outputs: table.numbers(2, MAX_PORTS)?.iter().map(known).collect::<Result<_, _>>()?,
                options_kind: table.u8(3)?.unwrap_or(0),
                options: table.table(4)?,
            })
        };
        let operators = graph.tables(3, MAX_OPERATORS)?.map(operator).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { tensors, inputs, outputs, operators })
    }
}

/// Returns the number and the name of an operator. Files from before 2020 store the number in one byte, later ones also
/// in four.
fn operator_code(table: &Table<'_>) -> Result<(usize, String), ConvertError> {
    const CUSTOM: usize = 32;
    let old = i32::from(table.i8(0)?.unwrap_or(0));
    let code = usize::try_from(old.max(table.i32(3)?.unwrap_or(0))).unwrap_or(usize::MAX);
    let name = match OPERATORS.get(code) {
        Some(_) if code == CUSTOM => format!("CUSTOM {:?}", table.text(1)?),
        Some(name) => (*name).to_owned(),
        None => format!("number {code}"),
    };
    Ok((code, name))
}

impl<'a> Tensor<'a> {
    fn read(table: &Table<'a>, buffers: &[&'a [u8]]) -> Result<Self, ConvertError> {
        let name = table.text(3)?;
        let kind = Kind::of(table.i8(1)?.unwrap_or(0));
        let broken = |why: String| ConvertError::Malformed(format!("the tensor {name:?} {why}"));
        let sizes = table.numbers(0, MAX_AXES)?;
        let shape =
            sizes.iter().map(|size| usize::try_from(*size).ok().filter(|size| *size > 0)).collect::<Option<Vec<_>>>();
        let shape = shape.ok_or_else(|| broken(format!("has the sizes {sizes:?}")))?;
        let numbers = shape.iter().try_fold(1u64, |all, size| all.checked_mul(*size as u64));
        if numbers.is_none_or(|numbers| numbers > MAX_NUMBERS) {
            return Err(broken(format!("has the sizes {sizes:?}, more than {MAX_NUMBERS} numbers")));
        }
        let signature = table.numbers(7, MAX_AXES)?;
        let has_batch = match &signature[..] {
            [-1, rest @ ..] if shape.first() == Some(&1) && sizes[1..] == *rest => true,
            [] => false,
            other if *other == sizes => false,
            other => {
                return Err(ConvertError::Unsupported(format!("the tensor {name:?} with the open sizes {other:?}")));
            }
        };
        if table.table(6)?.is_some() {
            return Err(ConvertError::Unsupported(format!("the tensor {name:?}, which is sparse")));
        }
        let buffer = usize::try_from(table.u32(2)?.unwrap_or(0)).unwrap_or(usize::MAX);
        let data = *buffers
            .get(buffer)
            .ok_or_else(|| broken(format!("refers to the buffer {buffer}, which does not exist")))?;
        let expected = kind.size().and_then(|size| numbers?.checked_mul(size as u64));
        if !data.is_empty() && expected.is_some_and(|expected| expected != data.len() as u64) {
            return Err(broken(format!("of the sizes {sizes:?} has {} bytes", data.len())));
        }
        Ok(Self { name, kind, shape, has_batch, data })
    }
}
