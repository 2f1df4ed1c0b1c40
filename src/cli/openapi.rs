//! `visage openapi`: prints the OpenAPI description of the service.

use super::Failure;
use crate::api;
use crate::config::Settings;

pub fn run(settings: &Settings) -> Result<(), Failure> {
    let text = api::description(settings).to_pretty_json();
    println!("{}", text.map_err(|error| Failure::Run(format!("the description cannot be written: {error}")))?);
    Ok(())
}
