//! TLS for the clients in this process: rustls with the cryptography of ring.

/// Makes ring the default cryptography of rustls. Call it before building an HTTP client. Repeated calls do nothing.
pub fn use_ring() {
    // An error means that a default was set before.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
