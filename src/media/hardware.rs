//! Decodes on a GPU with FFmpeg's hwaccels.
//!
//! FFmpeg decodes on the device if the device supports the stream, and on the CPU otherwise. The supported standards
//! define the output of a decoder to the bit, so both give the same frames. Sampled frames are copied from GPU memory
//! and converted to the pixel format of the CPU decoders.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use ffmpeg_next as ffmpeg;
use ffmpeg_next::codec::{Id, Parameters};
use ffmpeg_next::format::Pixel;
use ffmpeg_next::software::scaling::{Context, Flags};
use ffmpeg_next::util::error::EAGAIN;
use ffmpeg_next::{ffi as sys, frame};

use super::ffi::{self, HwContext, is_on_gpu};
use super::{NoHwaccel, prepare};
use crate::config::Hwaccel;

/// The maximum number of decoders per video on a GPU. A GPU has few decoding units, and each decoder takes GPU memory.
pub(super) const MAX_DECODERS: usize = 4;

/// A device is no longer used after this many failures in a row.
const MAX_FAILURES: u32 = 3;

/// NVIDIA's decoder library, which FFmpeg loads for the first video. Without it, FFmpeg decodes on the CPU and reports
/// no error.
const NVDEC: &str = "libnvcuvid.so.1";

/// A GPU, shared by all decoders of the process.
pub(super) struct HwDevice {
    /// `None` only in tests.
    context: Option<HwContext>,
    kind: sys::AVHWDeviceType,
    name: &'static str,
    /// The number of failures in a row.
    failures: AtomicU32,
}

/// Returns the GPU for this setting, or `None` to decode on the CPU. Opens the GPU at the first call.
///
/// # Errors
/// The setting is `cuda` or `vaapi`, and the device is missing.
pub(super) fn device(setting: Hwaccel) -> Result<Option<&'static HwDevice>, NoHwaccel> {
    let found = match setting {
        Hwaccel::None => return Ok(None),
        Hwaccel::Cuda => cuda()?,
        Hwaccel::Vaapi => vaapi()?,
        Hwaccel::Auto => match cuda().or_else(|_| vaapi()) {
            Ok(found) => found,
            Err(_) => return Ok(None),
        },
    };
    Ok(found.usable())
}

/// Returns FFmpeg's name of the GPU for this setting, or `None` to decode on the CPU.
///
/// # Errors
/// The setting is `cuda` or `vaapi`, and the device is missing.
pub fn hwaccel(setting: Hwaccel) -> Result<Option<&'static str>, NoHwaccel> {
    Ok(device(setting)?.map(|device| device.name))
}

fn cuda() -> Result<&'static HwDevice, NoHwaccel> {
    static CUDA: OnceLock<Result<HwDevice, NoHwaccel>> = OnceLock::new();
    let open = || {
        if !ffi::has_driver_library(NVDEC) {
            let reason =
                format!("{NVDEC} of NVIDIA's driver is missing; a container needs NVIDIA_DRIVER_CAPABILITIES=video");
            return Err(NoHwaccel { requested: "cuda".into(), reason });
        }
        // Models run in the primary context too. A second context would take additional memory.
        HwDevice::open(sys::AVHWDeviceType::AV_HWDEVICE_TYPE_CUDA, "cuda", &[("primary_ctx", "1")])
    };
    CUDA.get_or_init(open).as_ref().map_err(Clone::clone)
}

fn vaapi() -> Result<&'static HwDevice, NoHwaccel> {
    static VAAPI: OnceLock<Result<HwDevice, NoHwaccel>> = OnceLock::new();
    let open = || HwDevice::open(sys::AVHWDeviceType::AV_HWDEVICE_TYPE_VAAPI, "vaapi", &[]);
    VAAPI.get_or_init(open).as_ref().map_err(Clone::clone)
}

impl HwDevice {
    fn open(kind: sys::AVHWDeviceType, name: &'static str, options: &[(&str, &str)]) -> Result<Self, NoHwaccel> {
        prepare();
        let context = HwContext::open(kind, options).map_err(|error| NoHwaccel {
            requested: name.into(),
            reason: format!("FFmpeg cannot open the device: {error}"),
        })?;
        tracing::info!(hwaccel = name, "videos are decoded on a GPU");
        Ok(Self { context: Some(context), kind, name, failures: AtomicU32::new(0) })
    }

    /// Returns the device, or `None` after too many failures. Then the CPU decodes until the process is restarted.
    fn usable(&self) -> Option<&Self> {
        (self.failures.load(Ordering::Relaxed) < MAX_FAILURES).then_some(self)
    }

    /// Records that a video was decoded.
    pub fn record_success(&self) {
        self.failures.store(0, Ordering::Relaxed);
    }

    /// Records that decoding failed for a video that the CPU could decode.
    pub fn record_failure(&self, error: ffmpeg::Error) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if failures >= MAX_FAILURES {
            tracing::error!(
                hwaccel = self.name,
                %error,
                "the GPU failed repeatedly; the CPU decodes until the process restarts"
            );
        }
    }

    #[cfg(test)]
    pub fn failures(&self) -> u32 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Replaces CUDA and VA-API in tests: its frames have the same layout, and Mesa implements Vulkan on the CPU.
    #[cfg(test)]
    pub fn vulkan() -> Self {
        Self::open(sys::AVHWDeviceType::AV_HWDEVICE_TYPE_VULKAN, "vulkan", &[])
            .expect("Vulkan on the CPU, which scripts/install-test-deps.sh installs")
    }

    /// A device that supports no stream.
    #[cfg(test)]
    pub fn unopened() -> Self {
        Self {
            context: None,
            kind: sys::AVHWDeviceType::AV_HWDEVICE_TYPE_NONE,
            name: "none",
            failures: AtomicU32::new(0),
        }
    }

    /// Attaches the device to a decoder that is not open yet.
    pub fn attach_to(&self, decoder: &mut ffmpeg::codec::Context) {
        if let Some(context) = &self.context {
            context.attach_to(decoder);
        }
    }

    /// Whether the device supports a stream and decodes it to the bit as the CPU does. Older standards do not define
    /// the output of a decoder to the bit, and GPUs store other pixel formats differently.
    pub fn supports(&self, stream: &Parameters) -> bool {
        let (width, height) = ffi::coded_size(stream);
        let is = |format| ffi::has_pixel_format(stream, format);
        let is_8_bit = is(sys::AVPixelFormat::AV_PIX_FMT_YUV420P) || is(sys::AVPixelFormat::AV_PIX_FMT_YUVJ420P);
        let is_10_bit = is(sys::AVPixelFormat::AV_PIX_FMT_YUV420P10LE);
        let is_exact = match stream.id() {
            Id::H264 | Id::VP8 => is_8_bit,
            Id::HEVC | Id::VP9 => is_8_bit || is_10_bit,
            _ => false,
        };
        if !is_exact || width % 2 != 0 || height % 2 != 0 {
            return false;
        }
        ffmpeg::decoder::find(stream.id()).is_some_and(|codec| ffi::supports_hw_device(codec, self.kind))
    }
}

/// Whether an error is expected from any decoder, for damaged packets or if no frame is ready.
pub(super) fn is_input_error(error: ffmpeg::Error) -> bool {
    use ffmpeg::Error as E;
    matches!(error, E::InvalidData | E::Eof | E::Other { errno: EAGAIN })
}

/// Copies frames from GPU memory.
#[derive(Default)]
pub(super) struct FrameDownloader {
    scaler: Option<Context>,
}

impl FrameDownloader {
    /// Returns the frame as a CPU decoder outputs it. A frame in CPU memory is returned unchanged.
    pub fn download(&mut self, frame: frame::Video) -> Result<frame::Video, ffmpeg::Error> {
        if !is_on_gpu(&frame) {
            return Ok(frame);
        }
        let semi_planar = ffi::download(&frame)?;
        // GPUs interleave the two chroma planes.
        let planar = match semi_planar.format() {
            Pixel::NV12 => Pixel::YUV420P,
            Pixel::P010LE => Pixel::YUV420P10LE,
            _ => return Err(ffmpeg::Error::PatchWelcome),
        };
        let (format, width, height) = (semi_planar.format(), semi_planar.width(), semi_planar.height());
        let is_for = |scaler: &Context| {
            let input = scaler.input();
            (input.format, input.width, input.height) == (format, width, height)
        };
        let scaler = match self.scaler.take().filter(is_for) {
            Some(kept) => kept,
            None => Context::get(format, width, height, planar, width, height, Flags::POINT)?,
        };
        let mut downloaded = ffi::scale(self.scaler.insert(scaler), &semi_planar)?;
        ffi::copy_props(&mut downloaded, &frame)?;
        // The decoder crops the right and bottom edge. The left and top edge are cropped only here, in CPU memory.
        ffi::apply_cropping(&mut downloaded)?;
        Ok(downloaded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame with varying values and a time stamp.
    fn test_frame(format: Pixel, width: u32, height: u32) -> frame::Video {
        let mut frame = frame::Video::new(format, width, height);
        let is_10_bit = format == Pixel::YUV420P10LE;
        for plane in 0..frame.planes() {
            for (n, bytes) in frame.data_mut(plane).chunks_exact_mut(2).enumerate() {
                let noise = (n * 7919 + plane * 104_729) as u16;
                bytes.copy_from_slice(&if is_10_bit { noise % 1024 } else { noise }.to_le_bytes());
            }
        }
        frame.set_pts(Some(4711));
        frame.set_color_space(ffmpeg::color::Space::BT709);
        frame.set_color_range(ffmpeg::color::Range::JPEG);
        frame
    }

    /// Copies a frame to GPU memory, in this pixel format. Also returns the source of the copy, which has to be kept
    /// until the frame is downloaded.
    fn upload(device: &HwDevice, on_cpu: &frame::Video, stored: Pixel) -> (frame::Video, frame::Video) {
        let (width, height) = (on_cpu.width(), on_cpu.height());
        let mut semi_planar = frame::Video::empty();
        let mut scaler = Context::get(on_cpu.format(), width, height, stored, width, height, Flags::POINT).unwrap();
        scaler.run(on_cpu, &mut semi_planar).unwrap();
        let mut on_gpu = ffi::testing::upload(device.context.as_ref().unwrap(), &semi_planar);
        ffi::copy_props(&mut on_gpu, on_cpu).unwrap();
        (on_gpu, semi_planar)
    }

    /// The bytes of all planes, without the padding of lines.
    fn bytes(frame: &frame::Video) -> Vec<Vec<u8>> {
        let sample_size = if frame.format() == Pixel::YUV420P10LE { 2 } else { 1 };
        (0..frame.planes())
            .map(|plane| {
                let (width, height) = (frame.plane_width(plane) as usize, frame.plane_height(plane) as usize);
                let lines = frame.data(plane).chunks(frame.stride(plane)).take(height);
                lines.flat_map(|line| &line[..width * sample_size]).copied().collect()
            })
            .collect()
    }

    #[test]
    fn downloaded_frames_equal_those_of_the_cpu() {
        let device = HwDevice::vulkan();
        let mut downloader = FrameDownloader::default();
        for (stored, planar, (width, height)) in [
            (Pixel::NV12, Pixel::YUV420P, (640, 360)),
            (Pixel::P010LE, Pixel::YUV420P10LE, (640, 360)),
            (Pixel::NV12, Pixel::YUV420P, (334, 190)),
        ] {
            let on_cpu = test_frame(planar, width, height);
            let (on_gpu, _from) = upload(&device, &on_cpu, stored);
            assert!(is_on_gpu(&on_gpu) && !is_on_gpu(&on_cpu));
            let downloaded = downloader.download(on_gpu).unwrap();
            assert!(!is_on_gpu(&downloaded));
            assert_eq!((downloaded.format(), downloaded.width(), downloaded.height()), (planar, width, height));
            assert!(bytes(&downloaded) == bytes(&on_cpu), "{stored:?} of {width}x{height}");
            assert_eq!(downloaded.pts(), Some(4711));
            assert_eq!(
                (downloaded.color_space(), downloaded.color_range()),
                (on_cpu.color_space(), on_cpu.color_range())
            );
        }
    }

    #[test]
    fn downloaded_frames_are_cropped_as_on_the_cpu() {
        let device = HwDevice::vulkan();
        for (left, top, right, bottom) in [(6, 4, 10, 8), (64, 2, 0, 6), (0, 0, 2, 2)] {
            let mut on_cpu = test_frame(Pixel::YUV420P, 640, 360);
            let (mut on_gpu, _from) = upload(&device, &on_cpu, Pixel::NV12);
            ffi::testing::crop(&mut on_gpu, (left, top, right, bottom));
            ffi::testing::crop(&mut on_cpu, (left, top, right, bottom));
            let downloaded = FrameDownloader::default().download(on_gpu).unwrap();
            assert_eq!((downloaded.width(), downloaded.height()), (on_cpu.width(), on_cpu.height()), "{left}, {top}");
            assert!(bytes(&downloaded) == bytes(&on_cpu), "{left}, {top}, {right}, {bottom}");
        }
    }

    #[test]
    fn frames_in_cpu_memory_are_not_copied() {
        let on_cpu = test_frame(Pixel::YUV420P, 64, 64);
        let address = on_cpu.data(0).as_ptr();
        assert_eq!(FrameDownloader::default().download(on_cpu).unwrap().data(0).as_ptr(), address);
    }

    #[test]
    fn only_streams_with_bit_exact_decoding_are_supported() {
        let (mut cuda, none) = (HwDevice::unopened(), HwDevice::unopened());
        cuda.kind = sys::AVHWDeviceType::AV_HWDEVICE_TYPE_CUDA;
        let (plain, deep) = (Pixel::YUV420P, Pixel::YUV420P10LE);
        for (id, format, width, is_supported) in [
            (Id::H264, plain, 640, true),
            (Id::H264, Pixel::YUVJ420P, 640, true),
            (Id::H264, deep, 640, false),
            (Id::H264, Pixel::YUV444P, 640, false),
            (Id::HEVC, plain, 640, true),
            (Id::HEVC, deep, 640, true),
            (Id::HEVC, Pixel::YUV420P12LE, 640, false),
            (Id::VP8, plain, 640, true),
            (Id::VP9, deep, 640, true),
            (Id::VP9, plain, 641, false),
            (Id::MJPEG, plain, 640, false),
            (Id::MPEG4, plain, 640, false),
            (Id::MPEG2VIDEO, plain, 640, false),
            (Id::AV1, plain, 640, false),
        ] {
            let stream = ffi::testing::parameters(id, format, (width, 480));
            assert_eq!(cuda.supports(&stream), is_supported, "{id:?} {format:?} {width}");
            assert!(!none.supports(&stream));
        }
    }

    #[test]
    fn device_is_no_longer_used_after_repeated_failures() {
        let device = HwDevice::unopened();
        for _ in 1..MAX_FAILURES {
            device.record_failure(ffmpeg::Error::External);
        }
        device.record_success();
        for _ in 1..MAX_FAILURES {
            device.record_failure(ffmpeg::Error::External);
        }
        assert!(device.usable().is_some());
        device.record_failure(ffmpeg::Error::External);
        assert!(device.usable().is_none());
    }

    #[test]
    fn missing_device_is_an_error_only_if_it_is_requested_by_name() {
        assert_eq!(hwaccel(Hwaccel::None), Ok(None));
        let found = hwaccel(Hwaccel::Auto).unwrap();
        for (setting, name) in [(Hwaccel::Cuda, "cuda"), (Hwaccel::Vaapi, "vaapi")] {
            match hwaccel(setting) {
                Ok(device) => assert!(device == Some(name) && found.is_some()),
                Err(error) => {
                    let error = error.to_string();
                    assert!(error.contains("set video.hwaccel to auto or none") && !error.contains(": ;"), "{error}");
                }
            }
        }
    }
}
