//! Converts networks from TensorFlow Lite to ONNX, without TensorFlow and without Python.
//!
//! It knows the operators of MediaPipe's face networks, in 16-bit and 32-bit floats; anything else in a file is an error that
//! names it. The same bytes give the same bytes, so that what is made is known by its checksum.
//!
//! - [`flatbuffer`] reads the format of the file, [`schema`] its tables.
//! - [`layout`] knows in which order the axes of a tensor are stored. TensorFlow Lite has channels last, ONNX first. A tensor
//!   stays in the order in which it was computed, weights are turned during conversion, and a `Transpose` stands only where an
//!   operator needs another order than its input has.
//! - [`graph`] collects the nodes and constants of the new file, [`encode`] writes it.
//! - [`operators`] says each operator in those of ONNX.

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

/// An input or output of a network, and its name in the new file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// In the old file.
    pub tensor: String,
    /// In the new file.
    pub name: String,
    /// The sizes that an output has in the new file, without the batch. Left out: those of the old file.
    pub shape: Option<Vec<usize>>,
}

/// Converts a file with all its inputs and outputs, under the names that they have there.
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

/// Converts a file with these inputs, which have to be all it has, and these of its outputs, under other names.
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
        return Err(ConvertError::Port(format!("its input {:?} has no other name", network.tensors[*place].name)));
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
