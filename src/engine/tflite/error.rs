//! The reasons why a file cannot be converted.

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    #[error("not a valid TensorFlow Lite file: {0}")]
    Malformed(String),
    #[error("the converter does not support {0}")]
    Unsupported(String),
    #[error("operator {number} of the file, {name}: {reason}")]
    Operator { number: usize, name: String, reason: String },
    #[error("{0}")]
    Port(String),
}
