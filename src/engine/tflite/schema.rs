//! A TensorFlow Lite file as plain values: the tables of its schema (version 3) that matter for computing.

use super::ConvertError;
use super::flatbuffer::Table;
use super::names::OPERATORS;

/// More than the largest networks for faces have. A file with more is refused before anything is made of it.
const MOST_TENSORS: usize = 20_000;
const MOST_OPERATORS: usize = 10_000;
const MOST_BUFFERS: usize = 40_000;
const MOST_PORTS: usize = 64;
const MOST_AXES: usize = 6;
const MOST_NUMBERS: u64 = 1 << 26;

/// The one graph of a file.
pub(super) struct Network<'a> {
    pub(super) tensors: Vec<Tensor<'a>>,
    /// Positions among the tensors.
    pub(super) inputs: Vec<usize>,
    pub(super) outputs: Vec<usize>,
    pub(super) operators: Vec<Operator<'a>>,
}

pub(super) struct Tensor<'a> {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) shape: Vec<usize>,
    /// Whether the first size is that of the batch, which `shape` has as 1.
    pub(super) has_batch: bool,
    /// Its values, where they stand in the file.
    pub(super) data: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Float32,
    Float16,
    Int32,
    Int64,
    /// Another one, by its number in the schema.
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

    /// Bytes of a number of this kind; `None` for kinds that are not read.
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
    /// Its number in the schema, and its name there.
    pub(super) code: usize,
    pub(super) name: String,
    /// Positions among the tensors; `None` for one that is left out.
    pub(super) inputs: Vec<Option<usize>>,
    pub(super) outputs: Vec<usize>,
    /// Which of the tables of options it has (0: none), and that table.
    pub(super) options_kind: u8,
    pub(super) options: Option<Table<'a>>,
}

impl<'a> Network<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, ConvertError> {
        let model = Table::root(bytes, b"TFL3")?;
        if model.u32(0)? != Some(3) {
            return Err(ConvertError::Unknown(format!("version {} of the format", model.u32(0)?.unwrap_or(0))));
        }
        let codes =
            model.tables(1, OPERATORS.len())?.map(|code| operator_code(&code?)).collect::<Result<Vec<_>, _>>()?;
        let buffers = model.tables(4, MOST_BUFFERS)?.map(|buffer| buffer?.bytes(0)).collect::<Result<Vec<_>, _>>()?;
        let graphs = model.tables(2, MOST_PORTS)?.collect::<Result<Vec<_>, _>>()?;
        let [graph] = graphs[..] else {
            return Err(ConvertError::Unknown(format!("a file with {} graphs", graphs.len())));
        };
        let tensors = graph.tables(0, MOST_TENSORS)?.map(|tensor| Tensor::read(&tensor?, &buffers));
        let tensors = tensors.collect::<Result<Vec<_>, _>>()?;
        let known = |number: &i32| {
            let place = usize::try_from(*number).ok().filter(|place| *place < tensors.len());
            place.ok_or_else(|| ConvertError::Malformed(format!("there is no tensor {number}")))
        };
        let ports = |field| graph.numbers(field, MOST_PORTS)?.iter().map(known).collect::<Result<Vec<_>, _>>();
        let (inputs, outputs) = (ports(1)?, ports(2)?);
        let operator = |table: Result<Table<'a>, ConvertError>| {
            let table = table?;
            let number = usize::try_from(table.u32(0)?.unwrap_or(0)).unwrap_or(usize::MAX);
            let (code, name) = codes
                .get(number)
                .cloned()
                .ok_or_else(|| ConvertError::Malformed(format!("there is no operator code {number}")))?;
            let inputs = table.numbers(1, MOST_PORTS)?;
            let inputs = inputs.iter().map(|n| if *n == -1 { Ok(None) } else { known(n).map(Some) });
            Ok(Operator {
                code,
                name,
                inputs: inputs.collect::<Result<_, _>>()?,
                outputs: table.numbers(2, MOST_PORTS)?.iter().map(known).collect::<Result<_, _>>()?,
                options_kind: table.u8(3)?.unwrap_or(0),
                options: table.table(4)?,
            })
        };
        let operators = graph.tables(3, MOST_OPERATORS)?.map(operator).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { tensors, inputs, outputs, operators })
    }
}

/// The number and the name of an operator. Files from before 2020 have the number in one byte, later ones also in four.
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
        let sizes = table.numbers(0, MOST_AXES)?;
        let shape =
            sizes.iter().map(|size| usize::try_from(*size).ok().filter(|size| *size > 0)).collect::<Option<Vec<_>>>();
        let shape = shape.ok_or_else(|| broken(format!("has the sizes {sizes:?}")))?;
        let numbers = shape.iter().try_fold(1u64, |all, size| all.checked_mul(*size as u64));
        if numbers.is_none_or(|numbers| numbers > MOST_NUMBERS) {
            return Err(broken(format!("has the sizes {sizes:?}, more than {MOST_NUMBERS} numbers")));
        }
        let signature = table.numbers(7, MOST_AXES)?;
        let has_batch = match &signature[..] {
            [-1, rest @ ..] if shape.first() == Some(&1) && sizes[1..] == *rest => true,
            [] => false,
            other if *other == sizes => false,
            other => return Err(ConvertError::Unknown(format!("the tensor {name:?} with the open sizes {other:?}"))),
        };
        if table.table(6)?.is_some() {
            return Err(ConvertError::Unknown(format!("the tensor {name:?}, which is sparse")));
        }
        let buffer = usize::try_from(table.u32(2)?.unwrap_or(0)).unwrap_or(usize::MAX);
        let data =
            *buffers.get(buffer).ok_or_else(|| broken(format!("lies in the buffer {buffer}, which is not there")))?;
        let expected = kind.size().and_then(|size| numbers?.checked_mul(size as u64));
        if !data.is_empty() && expected.is_some_and(|expected| expected != data.len() as u64) {
            return Err(broken(format!("of the sizes {sizes:?} has {} bytes", data.len())));
        }
        Ok(Self { name, kind, shape, has_batch, data })
    }
}
