//! Converts networks from TensorFlow Lite to ONNX, without TensorFlow and without Python.
//!
//! It supports the operators of MediaPipe's face networks, in 16-bit and 32-bit floats. Anything else in a file is an
//! error that names it. The conversion is deterministic, so that a converted file can be checked by its checksum.
//!
//! - [`flatbuffer`] reads the file format, [`schema`] the tables in it.
//! - [`layout`] describes the order in which the axes of a tensor are stored. TensorFlow Lite stores channels last,
//!   ONNX stores them first. A tensor keeps the order in which it was computed, and weights are reordered during
//!   conversion. A `Transpose` is added only if an operator needs another order than its input has.
//! - [`graph`] collects the nodes and constants of the ONNX file, [`encode`] writes it.
//! - [`operators`] converts each operator to ONNX operators.

mod encode;
mod error;
mod flatbuffer;
mod graph;
mod layout;
mod names;
mod operators;
mod schema;

use serde::Deserialize;

pub use self::error::ConvertError;
use self::graph::Builder;
use self::schema::Network;

/// An input or output of a network, with its name in both files.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Name in the TensorFlow Lite file.
    pub tensor: String,
    /// Name in the ONNX file.
    pub name: String,
    /// Shape of an output in the ONNX file, without the batch. If absent, that of the TensorFlow Lite file.
    pub shape: Option<Vec<usize>>,
}

/// Converts a file with all its inputs and outputs, and keeps their names.
pub fn convert(file: &[u8]) -> Result<Vec<u8>, ConvertError> {
    let network = Network::read(file)?;
    let ports = |places: &[usize]| {
        let named = |place: &usize| {
            let tensor = network.tensors[*place].name.clone();
            Port { name: tensor.clone(), tensor, shape: None }
        };
        places.iter().map(named).collect::<Vec<_>>()
    };
    build(&network, &ports(&network.inputs), &ports(&network.outputs))
}

/// Converts a file and renames its inputs and outputs. `inputs` must list all inputs of the file. Outputs that
/// `outputs` does not list are dropped.
pub fn convert_as(file: &[u8], inputs: &[Port], outputs: &[Port]) -> Result<Vec<u8>, ConvertError> {
    build(&Network::read(file)?, inputs, outputs)
}

fn build(network: &Network<'_>, inputs: &[Port], outputs: &[Port]) -> Result<Vec<u8>, ConvertError> {
    let find = |places: &[usize], port: &Port| {
        let place = places.iter().copied().find(|place| network.tensors[*place].name == port.tensor);
        place.ok_or_else(|| ConvertError::Port(format!("it has no input or output {:?}", port.tensor)))
    };
    let mut builder = Builder::new(&network.tensors);
    for port in inputs {
        builder.input(find(&network.inputs, port)?, &port.name)?;
    }
    if let Some(place) = network.inputs.iter().find(|place| !builder.is_known(**place)) {
        return Err(ConvertError::Port(format!("its input {:?} is not listed", network.tensors[*place].name)));
    }
    for (number, operator) in network.operators.iter().enumerate() {
        operators::convert(&mut builder, operator).map_err(|reason| ConvertError::Operator {
            number,
            name: operator.name.clone(),
            reason,
        })?;
    }
    for port in outputs {
        builder.output(find(&network.outputs, port)?, &port.name, port.shape.as_deref())?;
    }
    Ok(builder.encode())
}

#[cfg(test)]
mod tests;
