//! Prints the samples that visage takes of a video as JSON, for `benches/corpus.py`: `samples FILE [EVERY ...]`.
//!
//! For each interval, the output has the time in seconds and a hash of the pixels of each sample, and the warnings.
//! Equal hashes mean equal pictures. For a refused file, the output is the code.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

use opencv::core::{MatTraitConst, MatTraitConstManual};
use serde_json::{Map, Value, json};
use visage::config::{Settings, Video};
use visage::media::{End, Every, Frames, FramesError, Opened, Source};
use visage::pipeline::PipelineError;

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args_os().skip(1);
    let file = PathBuf::from(arguments.next().ok_or("samples FILE [EVERY ...]")?);
    let intervals = arguments.map(|text| text.to_string_lossy().parse::<u32>()).collect::<Result<Vec<_>, _>>()?;
    let limits = Settings::defaults()?.video;
    let source = Source::File(file);
    let mut samples = Map::new();
    // Of the first interval.
    let mut warnings = None;
    for frames in intervals {
        match taken(&source, &limits, frames) {
            Ok((taken, end)) => {
                samples.insert(frames.to_string(), taken.into());
                warnings.get_or_insert(end.warnings);
            }
            Err(error) => {
                println!("{}", json!({ "refused": PipelineError::from(error).reason().code() }));
                return Ok(());
            }
        }
    }
    println!("{}", json!({ "samples": samples, "warnings": warnings }));
    Ok(())
}

fn taken(source: &Source, limits: &Video, frames: u32) -> Result<(Vec<Value>, End), FramesError> {
    let mut frames = Frames::start(Opened::open(source, limits)?, Every::exact(frames), 2)?;
    let mut taken = Vec::new();
    while let Some(sample) = frames.next(&|| false)? {
        let mut hasher = DefaultHasher::new();
        // Rows of a picture may be apart in memory; those of a copy are not.
        let picture = sample.picture.try_clone().map_err(unread)?;
        picture.data_bytes().map_err(unread)?.hash(&mut hasher);
        taken.push(json!([sample.time_s, format!("{:016x}", hasher.finish())]));
    }
    Ok((taken, frames.end(|| false)?))
}

fn unread(error: opencv::Error) -> FramesError {
    FramesError::Decoder(error.to_string())
}
