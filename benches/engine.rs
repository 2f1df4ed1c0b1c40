//! Measures rows per second of a model in the engine, for several numbers of callers and of rows per call. Uses the
//! device of the settings. Needs neither OpenCV nor FFmpeg:
//!
//! ```sh
//! cargo bench --no-default-features --bench engine -- --model models/emotion.onnx --callers 1,4,16 --rows 1,8,32
//! ```

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a benchmark may panic on an error")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use ndarray::{ArrayD, IxDyn};
use visage::config::Settings;
use visage::engine::{Engine, Model};

#[derive(Parser)]
struct Arguments {
    /// Model files with one input of 32-bit floats
    #[arg(long, required = true)]
    model: Vec<PathBuf>,
    /// Dimensions of a row that the model leaves open, as 3,384,640
    #[arg(long, value_delimiter = ',')]
    shape: Vec<usize>,
    /// Number of threads that call at the same time, as for several videos
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4, 16])]
    callers: Vec<usize>,
    /// Rows per call, as for several faces in a picture
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 32])]
    rows: Vec<usize>,
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Passed by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// The result of one measurement.
struct Measurement {
    rows_per_s: f64,
    median: Duration,
    p99: Duration,
}

/// Returns the dimensions of a row: `given` if it has all of them, otherwise those of the model.
fn row_shape(model: &Model, given: &[usize]) -> Vec<usize> {
    let fixed = model.input().shape.iter().skip(1).copied().collect::<Vec<_>>();
    if given.len() == fixed.len() {
        return given.to_vec();
    }
    let all: Option<Vec<usize>> = fixed.into_iter().collect();
    all.unwrap_or_else(|| panic!("{} leaves dimensions open: give them with --shape", model.name()))
}

fn measure(model: &Model, shape: &[usize], callers: usize, rows: usize, time: Duration) -> Measurement {
    let sizes: Vec<usize> = [&[rows], shape].concat();
    // The values differ, because zeros are faster on some devices.
    let values = (0..sizes.iter().product()).map(|at: usize| (at % 251) as f32 / 251.0).collect();
    let batch = ArrayD::from_shape_vec(IxDyn(&sizes), values).unwrap();
    model.run(batch.clone()).unwrap();
    let (over, begun) = (AtomicBool::new(false), Instant::now());
    let mut calls: Vec<Duration> = std::thread::scope(|scope| {
        let caller = || {
            let mut calls = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let called = Instant::now();
                model.run(batch.clone()).unwrap();
                calls.push(called.elapsed());
            }
            calls
        };
        let callers: Vec<_> = (0..callers).map(|_| scope.spawn(caller)).collect();
        std::thread::sleep(time);
        over.store(true, Ordering::Relaxed);
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    });
    let whole = begun.elapsed();
    calls.sort_unstable();
    Measurement {
        rows_per_s: (calls.len() * rows) as f64 / whole.as_secs_f64(),
        median: calls[calls.len() / 2],
        p99: calls[calls.len() * 99 / 100],
    }
}

fn main() {
    let arguments = Arguments::parse();
    let vars = std::env::vars().filter(|(name, _)| name.starts_with("VISAGE_"));
    let settings = Settings::load(None, vars).expect("the settings can be read");
    let engine = Engine::start(&settings.engine).expect("ONNX Runtime is found");
    let time = Duration::from_secs_f64(arguments.seconds);
    for path in &arguments.model {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let model = engine.load(&name, path).expect("the model can be loaded");
        let shape = row_shape(&model, &arguments.shape);
        println!("{name} {shape:?} on {:?}, {} threads", engine.device(), engine.threads());
        println!("{:>8} {:>6} {:>12} {:>12} {:>12}", "callers", "rows", "rows/s", "median ms", "p99 ms");
        for &callers in &arguments.callers {
            for &rows in &arguments.rows {
                let measured = measure(&model, &shape, callers, rows, time);
                let ms = |time: Duration| time.as_secs_f64() * 1000.0;
                let (median, p99) = (ms(measured.median), ms(measured.p99));
                println!("{callers:>8} {rows:>6} {:>12.0} {median:>12.2} {p99:>12.2}", measured.rows_per_s);
            }
        }
    }
}
