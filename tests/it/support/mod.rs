//! Servers and clips for the tests.

#![allow(dead_code, reason = "each test uses a part of them")]

pub mod browser;
pub mod clips;
pub mod collector;
pub mod log;
pub mod onnx;
pub mod postgres;
pub mod program;
pub mod s3;
pub mod s3_external;
pub mod service;
pub mod smtp;
pub mod ten;
pub mod web;

use visage::config::Settings;
use visage::isolation::Decoders;

/// Returns what opens the videos of a test: child processes of the program, as in service.
pub fn decoders(settings: &Settings) -> Decoders {
    Decoders::new(&settings.video, program::PROGRAM.into(), false).unwrap()
}

/// Returns a client for servers on this machine.
pub fn http() -> reqwest::Client {
    visage::tls::use_ring();
    reqwest::Client::builder().no_proxy().build().unwrap()
}
