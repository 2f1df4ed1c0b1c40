#!/usr/bin/env bash
# The Rust crate image decodes a JPEG file that is cut off in the middle without an error, and fills the rest with grey.
#
# Expected: a file without its second half is an error, as it is for the PNG and WebP decoders of the same crate, and as
# it is in Pillow ("image file is truncated").
# Seen: `image::load_from_memory` returns Ok with a picture of the full size, whose lower part has one colour. Nothing in
# the result tells that data were missing.
# Versions: image 0.25.10 (Rust, decoder zune-jpeg), Pillow 11.3.0.
# Why it matters here: a phone that loses its connection sends half a picture. The faces in the missing half would be
# reported as not there. visage looks for the end-of-image marker first (src/vision/pictures.rs) and answers
# `picture_damaged`.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "cut-off"
version = "0.0.0"
edition = "2024"

[dependencies]
image = { version = "=0.25.10", default-features = false, features = ["jpeg", "png", "webp"] }

[profile.dev]
debug = false
TOML
cat >src/main.rs <<'RUST'
use std::io::Cursor;

use image::{ImageFormat, Rgb, RgbImage};

fn main() {
    let noise = RgbImage::from_fn(128, 128, |x, y| Rgb([(x * 37 + y * 91) as u8, (x * y) as u8, (x ^ y) as u8]));
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
        let mut file = Cursor::new(Vec::new());
        noise.write_to(&mut file, format).unwrap();
        let file = file.into_inner();
        let half = &file[..file.len() / 2];
        match image::load_from_memory(half) {
            Ok(picture) => {
                let picture = picture.into_rgb8();
                let last: std::collections::HashSet<_> = picture.rows().next_back().unwrap().map(|pixel| pixel.0).collect();
                println!("{format:?}, cut off: Ok, {}x{}, colours in the last row: {last:?}", picture.width(), picture.height());
                assert!(format == ImageFormat::Jpeg && last.len() == 1, "another format, or not filled");
                std::fs::write("half.jpg", half).unwrap();
            }
            Err(error) => {
                println!("{format:?}, cut off: Err, {error}");
                assert!(format != ImageFormat::Jpeg, "JPEG files that are cut off are an error now");
            }
        }
    }
}
RUST
cargo run --quiet
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check pillow==11.3.0
env/bin/python - <<'PYTHON'
import PIL
from PIL import Image

try:
    Image.open("half.jpg").load()
except OSError as error:
    print("Pillow", PIL.__version__, "raises", error)
else:
    raise SystemExit("Pillow reads the file that is cut off now")
PYTHON
