#!/usr/bin/env bash
# One call of fast_image_resize compiles the crate's code for every pixel type, again in each crate that calls it.
#
# Expected: a call with two pictures of 3 bytes a pixel costs the caller's build little. The crate was compiled already,
# and the pixel type is one of many.
# Seen: `Resizer::resize` is generic over the pictures, so its body is compiled in the caller's crate, and it branches on
# the pixel type at run time. All scalers for 8, 16 and 32 bits with 1 to 4 channels are compiled there, each for up to
# 30 constants of precision. `Resizer::resize_typed` with `U8x3` gives the same picture from a fifth of the functions.
# Version: fast_image_resize 6.1.0.
# Why it matters here: the call was 29 % of the generic functions of visage's library, which is compiled again after each
# change and again for its tests. visage calls `resize_typed` (src/vision/scale.rs).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "resize"
version = "0.0.0"
edition = "2024"

[dependencies]
fast_image_resize = "=6.1.0"

[[bin]]
name = "any"
path = "src/any.rs"

[[bin]]
name = "typed"
path = "src/typed.rs"

[profile.dev]
debug = false
TOML
cat >src/any.rs <<'RUST'
use fast_image_resize::images::Image;
use fast_image_resize::{PixelType, Resizer};

fn main() {
    let pixels = (0..30 * 20 * 3).map(|at| (at * 7 % 251) as u8).collect();
    let from = Image::from_vec_u8(30, 20, pixels, PixelType::U8x3).unwrap();
    let mut to = Image::new(12, 9, PixelType::U8x3);
    Resizer::new().resize(&from, &mut to, None).unwrap();
    println!("{:?}", to.buffer());
}
RUST
cat >src/typed.rs <<'RUST'
use fast_image_resize::Resizer;
use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;

fn main() {
    let pixels: Vec<u8> = (0..30 * 20 * 3).map(|at| (at * 7 % 251) as u8).collect();
    let from: TypedImageRef<U8x3> = TypedImageRef::from_buffer(30, 20, &pixels).unwrap();
    let mut scaled = vec![0; 12 * 9 * 3];
    let mut to: TypedImage<U8x3> = TypedImage::from_buffer(12, 9, &mut scaled).unwrap();
    Resizer::new().resize_typed(&from, &mut to, None).unwrap();
    println!("{scaled:?}");
}
RUST
cargo build --quiet
[ "$(target/debug/any)" = "$(target/debug/typed)" ] || { echo "the two pictures differ" >&2; exit 1; }
functions() { nm --defined-only "target/debug/$1" | grep -c 'fast_image_resize'; }
any=$(functions any) typed=$(functions typed)
echo "fast_image_resize 6.1.0: the same picture; $any functions with resize, $typed with resize_typed"
[ "$any" -gt $((2 * typed)) ] || { echo "resize no longer compiles so much more" >&2; exit 1; }
