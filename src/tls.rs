//! TLS of the clients in this process: rustls with ring's cryptography.

/// Makes ring the default of rustls. HTTP clients need it before they are built. It may be called any number of times.
pub fn use_ring() {
    // An error means that a default is set already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
