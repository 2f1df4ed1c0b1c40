//! Servers and clips for the tests.

#![allow(dead_code, reason = "each test uses a part of them")]

pub mod browser;
pub mod clips;
pub mod log;
pub mod onnx;
pub mod postgres;
pub mod s3;
pub mod s3_external;
pub mod service;
pub mod smtp;

/// Returns a client for servers on this machine.
pub fn http() -> reqwest::Client {
    visage::tls::use_ring();
    reqwest::Client::builder().no_proxy().build().unwrap()
}
