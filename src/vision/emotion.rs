//! The classifier of expressions: any network that the settings describe.

use std::borrow::Borrow;
use std::path::Path;

use ndarray::{ArrayD, IxDyn};
use opencv::core::{Mat, MatTraitConst, MatTraitConstManual, Size, Vec3b};
use opencv::imgproc::{COLOR_BGR2GRAY, cvt_color_def};

use super::crop::{Crop, Framing, cut};
use super::{VisionError, scale};
use crate::analysis::{Emotion, Face, Probabilities};
use crate::config::{ClassifierOutput, Colour, EmotionModel, Layout};
use crate::engine::{Engine, EngineError, Model};

pub(super) struct Classifier {
    model: Model,
    described: EmotionModel,
    /// The outputs that have a label, in their order.
    classes: Vec<usize>,
    /// The outputs of the seven, in the order of [`Emotion::ALL`].
    seven: [usize; 7],
    /// What is added to each output's logit to take the prior of the training out.
    lift: Vec<f32>,
}

/// The key in a model file under which it says how frequent each class was in its training: one number an output, with
/// commas between.
const PRIOR: &str = "prior";

impl Classifier {
    /// Loads the model and holds it against its description.
    pub fn load(engine: &Engine, folder: &Path, described: &EmotionModel) -> Result<Self, VisionError> {
        let model = engine.load(&described.name, &folder.join(&described.file))?;
        fits(&model.input().shape, described)?;
        let labels = &described.labels;
        let mut seven = [0; 7];
        for emotion in Emotion::ALL {
            let output = labels.iter().position(|label| label == emotion.label());
            seven[emotion.index()] = output.ok_or_else(|| VisionError::Setting {
                key: "vision.emotion.labels",
                value: labels.join(","),
                reason: format!("{emotion} must stand there once"),
            })?;
        }
        let classifier = Self {
            classes: labels.iter().enumerate().filter(|(_, label)| *label != "-").map(|(output, _)| output).collect(),
            seven,
            lift: lift(&model, described)?,
            model,
            described: described.clone(),
        };
        // What the file leaves open (sizes that are not fixed) shows in a first run.
        let blank = Crop { row: vec![0.0; described.channels() * (described.width * described.height) as usize] };
        classifier.classify(&[blank])?;
        Ok(classifier)
    }

    pub const fn model(&self) -> &Model {
        &self.model
    }

    pub fn crop(&self, frame: &Mat, face: &Face, framing: &Framing) -> Result<Crop, VisionError> {
        let picture = cut(frame, &framing.square(face), self.described.width, self.described.height)?;
        Ok(Crop { row: row(&picture, &self.described)? })
    }

    /// The labels of the classes, in the order of [`Classifier::shares`].
    pub fn classes(&self) -> Vec<&str> {
        self.classes.iter().map(|&output| self.described.labels[output].as_str()).collect()
    }

    /// A whole picture as the classifier wants it.
    pub fn whole(&self, picture: &Mat) -> Result<Crop, VisionError> {
        let size = Size::new(self.described.width as i32, self.described.height as i32);
        if picture.size()? == size {
            return Ok(Crop { row: row(picture, &self.described)? });
        }
        Ok(Crop { row: row(&scale::whole(picture, size)?, &self.described)? })
    }

    /// Probabilities of the seven for each crop.
    pub fn classify(&self, crops: &[impl Borrow<Crop>]) -> Result<Vec<Probabilities>, VisionError> {
        let read = self.read(crops, &self.seven)?;
        Ok(read.into_iter().map(|shares| Probabilities(std::array::from_fn(|emotion| shares[emotion]))).collect())
    }

    /// A probability of each class for each crop, also of those that are none of the seven.
    pub fn shares(&self, crops: &[Crop]) -> Result<Vec<Vec<f32>>, VisionError> {
        self.read(crops, &self.classes)
    }

    /// The probabilities of some outputs for each crop.
    fn read(&self, crops: &[impl Borrow<Crop>], kept: &[usize]) -> Result<Vec<Vec<f32>>, VisionError> {
        if crops.is_empty() {
            return Ok(Vec::new());
        }
        let failed = |reason: String| EngineError::Run { model: self.model.name().to_owned(), reason };
        let values: Vec<f32> = crops.iter().flat_map(|crop| crop.borrow().row.iter().copied()).collect();
        let rows = ArrayD::from_shape_vec(IxDyn(&shape(crops.len(), &self.described)), values)
            .map_err(|error| failed(error.to_string()))?;
        let outputs = self.model.run(rows)?;
        let output = outputs.first().ok_or_else(|| failed("it has no output".to_owned()))?;
        let each = output.len() / crops.len();
        if each != self.described.labels.len() {
            return Err(VisionError::Setting {
                key: "vision.emotion.labels",
                value: self.described.labels.join(","),
                reason: format!("the model {} has {each} outputs", self.model.name()),
            });
        }
        let values: Vec<f32> = output.iter().copied().collect();
        let read = |values| probabilities(values, &self.lift, kept, self.described.output);
        let all = values.chunks_exact(each).map(read).collect::<Option<Vec<_>>>();
        Ok(all.ok_or_else(|| failed("its output is no number".to_owned()))?)
    }
}

/// What takes `vision.emotion.prior` of the prior of the training out of each output: nothing where the file names no prior.
fn lift(model: &Model, described: &EmotionModel) -> Result<Vec<f32>, VisionError> {
    let Some(text) = model.metadata(PRIOR) else {
        if described.prior > 0.0 {
            tracing::debug!(model = model.name(), "vision.emotion.prior has no effect: the model file names no prior");
        }
        return Ok(vec![0.0; described.labels.len()]);
    };
    let (numbers, outputs) = (text.split(',').count(), described.labels.len());
    if numbers != outputs {
        return Err(VisionError::Setting {
            key: "vision.emotion.labels",
            value: described.labels.join(","),
            reason: format!("the model {} names the prior of {numbers} outputs", model.name()),
        });
    }
    let refused = || EngineError::ModelRefused {
        name: model.name().to_owned(),
        reason: format!("its metadata {PRIOR:?} must be numbers above 0, and is {text:?}"),
    };
    Ok(lifts(text, outputs, described.prior).ok_or_else(refused)?)
}

/// `-strength x ln(prior)` for each of so many numbers of a text; `None` where it does not hold as many above 0.
fn lifts(text: &str, outputs: usize, strength: f32) -> Option<Vec<f32>> {
    let numbers = text.split(',').map(|number| number.trim().parse::<f32>());
    let prior: Vec<f32> = numbers.collect::<Result<_, _>>().ok()?;
    let usable = prior.len() == outputs && prior.iter().all(|&share| share > 0.0 && share.is_finite());
    usable.then(|| prior.iter().map(|share| -strength * share.ln()).collect())
}

/// The shape of the input for some faces.
fn shape(count: usize, described: &EmotionModel) -> [usize; 4] {
    let (channels, width, height) = (described.channels(), described.width as usize, described.height as usize);
    match described.layout {
        Layout::Nchw => [count, channels, height, width],
        Layout::Nhwc => [count, height, width, channels],
    }
}

/// Refuses a description that the input of the model contradicts.
fn fits(input: &[Option<usize>], described: &EmotionModel) -> Result<(), VisionError> {
    let refuse = |key, value: String, reason| Err(VisionError::Setting { key, value, reason });
    let &[_, a, b, c] = input else {
        let reason = format!("the model's input has {} sizes, and a batch of pictures has 4", input.len());
        return refuse("vision.emotion.file", described.file.display().to_string(), reason);
    };
    let (layout, channels, height, width) = match described.layout {
        Layout::Nchw => ("nchw", a, b, c),
        Layout::Nhwc => ("nhwc", c, a, b),
    };
    if let Some(channels) = channels.filter(|channels| *channels != described.channels()) {
        // Three sizes of which the other layout's fits are more likely the layout's fault than the colour's.
        let other = if described.layout == Layout::Nchw { c } else { a };
        if other == Some(described.channels()) {
            return refuse("vision.emotion.layout", layout.to_owned(), format!("the model's input is {input:?}"));
        }
        let colour = format!("{:?}", described.colour).to_lowercase();
        return refuse("vision.emotion.colour", colour, format!("the model takes {channels} channels"));
    }
    for (key, given, taken) in
        [("vision.emotion.width", described.width, width), ("vision.emotion.height", described.height, height)]
    {
        if let Some(taken) = taken.filter(|taken| *taken != given as usize) {
            return refuse(key, given.to_string(), format!("the model takes {taken}"));
        }
    }
    Ok(())
}

/// One row of the input from a BGR picture of the classifier's size.
fn row(picture: &Mat, described: &EmotionModel) -> Result<Vec<f32>, VisionError> {
    // (pixel / 255 - mean) / std, as one factor and one term a channel.
    let of = |values: &[f32], channel: usize| values.get(channel).or(values.first()).copied().unwrap_or(0.0);
    let scale = |channel: usize, value: u8| {
        (f32::from(value) / 255.0 - of(&described.mean, channel)) / of(&described.std, channel)
    };
    let channels = described.channels();
    let plane = picture.total();
    let mut row = vec![0.0; plane * channels];
    let mut put = |pixel: usize, channel: usize, value: u8| {
        let at = match described.layout {
            Layout::Nchw => channel * plane + pixel,
            Layout::Nhwc => pixel * channels + channel,
        };
        row[at] = scale(channel, value);
    };
    if described.colour == Colour::Gray {
        let mut gray = Mat::default();
        cvt_color_def(picture, &mut gray, COLOR_BGR2GRAY)?;
        gray.data_typed::<u8>()?.iter().enumerate().for_each(|(pixel, value)| put(pixel, 0, *value));
    } else {
        let order = if described.colour == Colour::Bgr { [0, 1, 2] } else { [2, 1, 0] };
        for (pixel, bgr) in picture.data_typed::<Vec3b>()?.iter().enumerate() {
            for (channel, from) in order.into_iter().enumerate() {
                put(pixel, channel, bgr[from]);
            }
        }
    }
    Ok(row)
}

/// The probabilities of the kept outputs of one face, in the order in which they are kept: the rest dropped, what is left
/// lifted and made to sum to 1. None where an output is no number.
fn probabilities(values: &[f32], lift: &[f32], kept: &[usize], output: ClassifierOutput) -> Option<Vec<f32>> {
    if values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let lifted = |output: &usize| values[*output] + lift[*output];
    let top = kept.iter().map(lifted).fold(f32::MIN, f32::max);
    let weight = |at: &usize| match output {
        // Dropping outputs before the softmax is renormalising after it, and never divides nothing by nothing.
        ClassifierOutput::Logits => (lifted(at) - top).exp(),
        ClassifierOutput::Probabilities => values[*at].max(0.0) * lift[*at].exp(),
    };
    let weights: Vec<f32> = kept.iter().map(weight).collect();
    let sum: f32 = weights.iter().sum();
    // All the weight on dropped outputs says nothing about the kept ones.
    let even = 1.0 / kept.len() as f32;
    Some(weights.into_iter().map(|weight| if sum > 0.0 { weight / sum } else { even }).collect())
}

#[cfg(test)]
mod tests {
    use opencv::core::MatTraitManual;
    use proptest::prelude::*;

    use super::*;
    use crate::config::Settings;

    /// Two pixels wide, one high: pure blue, then B 10, G 20, R 30.
    fn picture() -> Mat {
        let mut picture = Mat::new_rows_cols_with_default(1, 2, opencv::core::CV_8UC3, 0.into()).unwrap();
        picture.data_typed_mut::<Vec3b>().unwrap().copy_from_slice(&[[255, 0, 0].into(), [10, 20, 30].into()]);
        picture
    }

    fn described(colour: Colour, layout: Layout, mean: &[f32], std: &[f32]) -> EmotionModel {
        let mut model = Settings::defaults().unwrap().vision.emotion;
        (model.colour, model.layout, model.width, model.height) = (colour, layout, 2, 1);
        (model.mean, model.std) = (mean.to_vec(), std.to_vec());
        model
    }

    #[test]
    fn every_layout_and_colour_puts_each_value_in_its_place() {
        let plain = |colour, layout| -> Vec<f32> {
            let row = row(&picture(), &described(colour, layout, &[0.0], &[1.0])).unwrap();
            row.iter().map(|value| (value * 255.0).round()).collect()
        };
        assert_eq!(plain(Colour::Bgr, Layout::Nhwc), [255.0, 0.0, 0.0, 10.0, 20.0, 30.0]);
        assert_eq!(plain(Colour::Rgb, Layout::Nhwc), [0.0, 0.0, 255.0, 30.0, 20.0, 10.0]);
        assert_eq!(plain(Colour::Bgr, Layout::Nchw), [255.0, 10.0, 0.0, 20.0, 0.0, 30.0]);
        assert_eq!(plain(Colour::Rgb, Layout::Nchw), [0.0, 30.0, 0.0, 20.0, 255.0, 10.0]);
        // Grey is 0.114 B + 0.587 G + 0.299 R: 29.07, and 1.14 + 11.74 + 8.97 = 21.85.
        assert_eq!(plain(Colour::Gray, Layout::Nchw), [29.0, 22.0]);
        assert_eq!(plain(Colour::Gray, Layout::Nhwc), [29.0, 22.0]);
    }

    #[test]
    fn scaling_is_by_channel_in_the_order_that_the_network_sees() {
        let near = |given: &[f32], wanted: &[f32]| {
            let same = given.len() == wanted.len() && given.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-5);
            assert!(same, "{given:?} instead of {wanted:?}");
        };
        let gray = row(&picture(), &described(Colour::Gray, Layout::Nchw, &[0.5], &[0.25])).unwrap();
        near(&gray, &[(29.0 / 255.0 - 0.5) / 0.25, (22.0 / 255.0 - 0.5) / 0.25]);
        let model = described(Colour::Rgb, Layout::Nchw, &[0.1, 0.2, 0.3], &[1.0, 2.0, 4.0]);
        let (r, g, b) = (30.0 / 255.0 - 0.1, 20.0 / 255.0 - 0.2, 10.0 / 255.0 - 0.3);
        near(&row(&picture(), &model).unwrap(), &[-0.1, r, -0.1, g / 2.0, 0.7 / 4.0, b / 4.0]);
    }

    #[test]
    fn an_input_that_contradicts_the_settings_is_refused_by_key() {
        let base = Settings::defaults().unwrap().vision.emotion;
        let key = |input: &[Option<usize>], change: &dyn Fn(&mut EmotionModel)| {
            let mut model = base.clone();
            change(&mut model);
            match fits(input, &model) {
                Ok(()) => "fits",
                Err(VisionError::Setting { key, .. }) => key,
                Err(other) => panic!("{other}"),
            }
        };
        let nchw = [None, Some(1), Some(48), Some(48)];
        assert_eq!(key(&nchw, &|_| {}), "fits");
        assert_eq!(key(&[None; 4], &|_| {}), "fits");
        assert_eq!(key(&nchw, &|model| model.width = 64), "vision.emotion.width");
        assert_eq!(key(&nchw, &|model| model.height = 64), "vision.emotion.height");
        assert_eq!(key(&nchw, &|model| model.colour = Colour::Rgb), "vision.emotion.colour");
        assert_eq!(key(&nchw, &|model| model.layout = Layout::Nhwc), "vision.emotion.layout");
        assert_eq!(key(&[None, Some(48), Some(48), Some(1)], &|_| {}), "vision.emotion.layout");
        assert_eq!(key(&[None, Some(2304)], &|_| {}), "vision.emotion.file");
    }

    /// The outputs of the seven in the built-in model.
    const SEVEN: [usize; 7] = [4, 5, 6, 1, 3, 2, 0];
    const NO_LIFT: [f32; 8] = [0.0; 8];

    fn seven(values: &[f32], lift: &[f32], output: ClassifierOutput) -> Vec<f32> {
        probabilities(values, lift, &SEVEN, output).unwrap()
    }

    fn near(given: &[f32], wanted: &[f32]) {
        let same = given.len() == wanted.len() && given.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(same, "{given:?} instead of {wanted:?}");
    }

    #[test]
    fn outputs_go_to_their_labels_and_a_dropped_one_to_nobody() {
        let labels = Settings::defaults().unwrap().vision.emotion.labels;
        let output = |emotion: Emotion| labels.iter().position(|label| label == emotion.label()).unwrap();
        assert_eq!(Emotion::ALL.map(output), SEVEN);

        // neutral, happy, surprise, sad, angry, disgust, fear, dropped
        let given = [0.1, 0.2, 0.05, 0.05, 0.02, 0.03, 0.05, 0.5];
        let wanted = [0.04, 0.06, 0.1, 0.4, 0.1, 0.1, 0.2];
        near(&seven(&given, &NO_LIFT, ClassifierOutput::Probabilities), &wanted);
        near(&seven(&given.map(f32::ln), &NO_LIFT, ClassifierOutput::Logits), &wanted);
        // All that are kept, in their order.
        near(
            &probabilities(&given, &NO_LIFT, &[0, 1, 2, 3, 4, 5, 6, 7], ClassifierOutput::Probabilities).unwrap(),
            &given,
        );
    }

    #[test]
    fn output_that_is_no_number_is_no_result() {
        let mut given = [0.0; 8];
        given[7] = f32::NAN;
        assert_eq!(probabilities(&given, &NO_LIFT, &SEVEN, ClassifierOutput::Logits), None);
        let dropped_alone = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0];
        near(&seven(&dropped_alone, &NO_LIFT, ClassifierOutput::Probabilities), &[1.0 / 7.0; 7]);
    }

    #[test]
    fn a_prior_is_as_many_numbers_above_nothing_as_there_are_outputs() {
        near(&lifts("0.1, 0.45,0.45", 3, 0.5).unwrap(), &[1.151_293, 0.399_254, 0.399_254]);
        near(&lifts("0.5,0.5", 2, 0.0).unwrap(), &[0.0, 0.0]);
        for text in ["", "0.5", "0.5,0.5,0.5", "0.5,0", "0.5,-1", "0.5,NaN", "0.5,inf", "0.5;0.5", "half,half"] {
            assert_eq!(lifts(text, 2, 0.5), None, "{text:?}");
        }
    }

    #[test]
    fn the_whole_prior_taken_out_leaves_what_the_picture_says() {
        // A picture that says nothing: the network answers with the prior, and without it all are alike.
        let prior = [0.4, 0.2, 0.1, 0.1, 0.08, 0.02, 0.05, 0.05_f32];
        let text = prior.map(|share| share.to_string()).join(",");
        for (logits, output) in
            [(prior.map(f32::ln), ClassifierOutput::Logits), (prior, ClassifierOutput::Probabilities)]
        {
            near(&seven(&logits, &lifts(&text, 8, 1.0).unwrap(), output), &[1.0 / 7.0; 7]);
            let as_trained = seven(&logits, &lifts(&text, 8, 0.0).unwrap(), output);
            near(&as_trained, &SEVEN.map(|at| prior[at] / 0.95));
        }
    }

    proptest! {
        #[test]
        fn seven_probabilities_sum_to_one_and_keep_the_order_of_the_logits(
            logits in prop::collection::vec(-80.0..80.0_f32, 8),
        ) {
            let seven = seven(&logits, &NO_LIFT, ClassifierOutput::Logits);
            prop_assert!((seven.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            prop_assert!(seven.iter().all(|p| (0.0..=1.0).contains(p)));
            let (neutral, happy) = (seven[Emotion::Neutral.index()], seven[Emotion::Happy.index()]);
            prop_assert!((logits[0] >= logits[1]) == (neutral >= happy) || neutral == happy);
        }

        #[test]
        fn the_more_of_the_prior_is_taken_out_the_more_probable_is_the_rarest(
            logits in prop::collection::vec(-5.0..5.0_f32, 8), less in 0.0..1.0_f32, more in 0.0..1.0_f32,
        ) {
            let text = "0.3,0.2,0.1,0.1,0.1,0.01,0.09,0.1";
            let disgust = |strength| {
                seven(&logits, &lifts(text, 8, strength).unwrap(), ClassifierOutput::Logits)[Emotion::Disgust.index()]
            };
            let (less, more) = (less.min(more), less.max(more));
            prop_assert!(disgust(less) <= disgust(more) + 1e-6);
        }

        #[test]
        fn logits_and_their_probabilities_read_alike(
            logits in prop::collection::vec(-5.0..5.0_f32, 8), strength in 0.0..1.0_f32,
        ) {
            let lift = lifts("0.3,0.2,0.1,0.1,0.1,0.01,0.09,0.1", 8, strength).unwrap();
            let shares: Vec<f32> = logits.iter().map(|logit| logit.exp()).collect();
            let (a, b) = (seven(&logits, &lift, ClassifierOutput::Logits), seven(&shares, &lift, ClassifierOutput::Probabilities));
            prop_assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5));
        }
    }
}
