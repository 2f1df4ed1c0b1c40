#!/usr/bin/env bash
# The crate fast_image_resize scales an empty part of a picture without an error, and leaves the destination as it was.
#
# Expected: scaling a part of 0 pixels to a picture of 2x2 fails, as a part beyond the picture does, because there is
# nothing that the destination could show. OpenCV's resize raises an error.
# Seen: `Resizer::resize` and `Resizer::resize_typed` return Ok, and write no pixel of the destination.
# Versions: fast_image_resize 6.1.0 (Rust), opencv-python-headless 4.10.0.84.
# Why it matters here: faces at the edge of a picture are cut to the part that is inside, which can be empty. A caller
# that makes the destination without clearing it, which is faster, takes "Ok" as "every pixel was written" and hands on
# what the memory held before. visage checks the part itself (src/vision/scale.rs).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check opencv-python-headless==4.10.0.84 numpy==1.26.4
env/bin/python - <<'PYTHON'
import cv2, numpy

try:
    cv2.resize(numpy.zeros((10, 10, 3), numpy.uint8)[5:5, 5:5], (2, 2))
except cv2.error as error:
    print("OpenCV", cv2.__version__, "raises", error.err)
else:
    raise SystemExit("OpenCV scales an empty part now")
PYTHON

mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "empty-part"
version = "0.0.0"
edition = "2024"

[dependencies]
fast_image_resize = "=6.1.0"

[profile.dev]
debug = false
TOML
cat >src/main.rs <<'RUST'
use fast_image_resize::images::{Image, TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{PixelType, ResizeOptions, Resizer};

fn main() {
    // The source is black, and the destination is filled with 7.
    let source = vec![0; 10 * 10 * 3];
    let empty = ResizeOptions::new().crop(5.0, 5.0, 0.0, 0.0);
    let beyond = ResizeOptions::new().crop(5.0, 5.0, 10.0, 10.0);

    let from = Image::from_vec_u8(10, 10, source.clone(), PixelType::U8x3).unwrap();
    let mut to = Image::from_vec_u8(2, 2, vec![7; 12], PixelType::U8x3).unwrap();
    let result = Resizer::new().resize(&from, &mut to, &empty);
    println!("resize, empty part: {result:?}, destination {:?}", to.buffer());
    assert!(result.is_ok() && to.buffer() == [7; 12]);
    let result = Resizer::new().resize(&from, &mut to, &beyond);
    println!("resize, part beyond the picture: {result:?}");
    assert!(result.is_err());

    let from: TypedImageRef<U8x3> = TypedImageRef::from_buffer(10, 10, &source).unwrap();
    let mut pixels = vec![7; 12];
    let mut to: TypedImage<U8x3> = TypedImage::from_buffer(2, 2, &mut pixels).unwrap();
    let result = Resizer::new().resize_typed(&from, &mut to, &empty);
    println!("resize_typed, empty part: {result:?}, destination {pixels:?}");
    assert!(result.is_ok() && pixels == [7; 12]);
}
RUST
echo "fast_image_resize $(grep -o '=[0-9.]*"' Cargo.toml | tr -d '="')"
cargo run --quiet
