//! A network in the format of TensorFlow Lite, converted to ONNX.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Ok(converted) = visage::engine::tflite::convert(input) {
        assert_eq!(visage::engine::tflite::convert(input).ok(), Some(converted), "the same bytes give the same bytes");
    }
});
