//! Classifies errors by the party at fault. Every error type that can end a job has a method `fault()` with an
//! exhaustive match, so that each new variant must be classified. The worker uses the fault alone to decide whether a
//! job fails or runs again.

/// A part of the service that can fail for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    Database,
    Storage,
    Mail,
    /// Connections to servers of others.
    Network,
    /// Memory, threads or processes of this machine.
    Memory,
    /// Models, ONNX Runtime, or the device on which they run.
    Models,
}

impl Part {
    pub const ALL: [Self; 6] = [Self::Database, Self::Storage, Self::Mail, Self::Network, Self::Memory, Self::Models];

    /// The name in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Storage => "storage",
            Self::Mail => "mail",
            Self::Network => "network",
            Self::Memory => "memory",
            Self::Models => "models",
        }
    }
}

/// The party at fault for an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// A part of the service is unavailable or broken. The run does not count as an attempt, and the job runs again.
    Ours(Part),
    /// The video is at fault. Every other run would fail in the same way.
    Video,
    /// It is unknown whether the video is at fault. The run counts as an attempt, and after `queue.max_attempts` such
    /// runs the job fails.
    Unclear,
    /// The client withdrew its request, or gave an address that cannot be used.
    Client,
}
