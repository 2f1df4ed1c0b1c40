//! Made-up findings for tests.

use std::collections::BTreeMap;

use crate::analysis::{
    Advice, Analysis, BBox, Certainty, Emotion, FaceSummary, Finding, Findings, Interval, Intervals, METRICS_VERSION,
    ModelUsed, PartName, Parts, Probabilities, Relative, Remark, Rise, Segment, Span, Speech, SpeechQuality, Story,
    Summary, Timeline, TimelineRow, VideoFacts, Warning, WeightedPart,
};

/// Returns probabilities with one strong emotion that vary over time, like those of a real classifier.
fn leaning(emotion: Emotion, strength: f32, time_s: f64) -> Probabilities {
    let mut p = [0.0_f32; 7];
    for (index, value) in p.iter_mut().enumerate() {
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "seven of them")]
        let wave = (time_s * (0.9 + 0.37 * index as f64) + index as f64).sin() as f32;
        *value = 0.05 + 0.04 * wave;
    }
    p[Emotion::Neutral.index()] += 0.12;
    p[emotion.index()] += strength;
    let sum: f32 = p.iter().sum();
    Probabilities(p.map(|value| value / sum))
}

fn row(face: u32, time_s: f64, emotions: Probabilities) -> TimelineRow {
    let bbox = BBox { x: 100.0, y: 80.0, width: 120.0, height: 150.0 };
    let eye_contact = Some(time_s < 8.0);
    TimelineRow {
        time_s,
        face,
        bbox,
        emotions,
        pose: None,
        eye_contact,
        quality: 0.9,
        gaze: None,
        eyes_shut: None,
        covered: None,
        expressions: None,
        relative: None,
    }
}

fn mean(rows: &[&TimelineRow]) -> BTreeMap<Emotion, f64> {
    let share = |e: Emotion| rows.iter().map(|r| f64::from(r.emotions.of(e))).sum::<f64>() * 100.0 / rows.len() as f64;
    Emotion::ALL.into_iter().map(|e| (e, share(e))).collect()
}

fn top(shares: &BTreeMap<Emotion, f64>) -> Emotion {
    shares.iter().max_by(|a, b| a.1.total_cmp(b.1)).map_or(Emotion::Neutral, |(e, _)| *e)
}

/// Returns intervals that extend `reach` points to both sides of the figures.
fn intervals(emotions: &BTreeMap<Emotion, f64>, reach: f64) -> Intervals {
    let span = |value: f64| Interval { low: (value - reach).max(0.0), high: (value + reach).min(100.0) };
    let signed = |value: f64| Interval { low: (value - reach / 50.0).max(-1.0), high: (value + reach / 50.0).min(1.0) };
    let share = |value: f64| Interval { low: span(value).low / 100.0, high: span(value).high / 100.0 };
    Intervals {
        emotions: emotions.iter().map(|(emotion, percent)| (*emotion, span(*percent))).collect(),
        calmness: span(58.3),
        eye_contact: Some(span(41.7)),
        steadiness: Some(span(75.0)),
        model_confidence: share(71.4),
        valence: signed(0.12),
        arousal: signed(0.21),
        presence: Some(span(55.0)),
        overall_score: None,
    }
}

/// Returns the parts of the scores, with their weights without sound.
fn parts() -> Parts {
    let part = |part, value, weight| WeightedPart { part, value, weight };
    Parts {
        calmness: vec![part(PartName::Arousal, 21.7, -1.0), part(PartName::Displeasure, 20.0, -1.0)],
        presence: vec![
            part(PartName::EyeContact, 41.7, 0.5),
            part(PartName::Calmness, 58.3, 0.3125),
            part(PartName::Steadiness, 75.0, 0.1875),
        ],
        overall_score: vec![part(PartName::Presence, 55.0, 1.0)],
    }
}

/// Returns the segments: runs of at least two samples with the same emotion.
fn segments(rows: &[&TimelineRow]) -> Vec<Segment> {
    let runs = rows.chunk_by(|a, b| a.emotions.top().0 == b.emotions.top().0 && b.time_s - a.time_s < 2.0);
    let run = |run: &[&TimelineRow]| Segment {
        emotion: run[0].emotions.top().0,
        start_s: run[0].time_s,
        end_s: run[run.len() - 1].time_s + 0.4,
        samples: run.len() as u32,
        confidence: run.iter().map(|row| f64::from(row.emotions.top().1)).sum::<f64>() / run.len() as f64,
        relative: None,
    };
    runs.filter(|rows| rows.len() > 1).map(run).collect()
}

fn face(id: u32, rows: &[TimelineRow], reach: f64) -> FaceSummary {
    let rows: Vec<&TimelineRow> = rows.iter().filter(|row| row.face == id).collect();
    let (mut counts, mut sums) = (BTreeMap::<Emotion, u32>::new(), BTreeMap::<Emotion, f64>::new());
    for row in &rows {
        let (emotion, p) = row.emotions.top();
        *counts.entry(emotion).or_default() += 1;
        *sums.entry(emotion).or_default() += f64::from(p);
    }
    let emotions = mean(&rows);
    FaceSummary {
        id,
        first_s: rows[0].time_s,
        last_s: rows[rows.len() - 1].time_s,
        frames: rows.len() as u32,
        dominant_emotion: top(&emotions),
        story: None,
        average_confidence: sums.iter().map(|(e, sum)| (*e, sum / f64::from(counts[e]))).collect(),
        emotion_counts: counts,
        emotions: emotions.clone(),
        embeddings_shape: [rows.len() as u32, 7],
        example_embedding: rows[0].emotions.0,
        eye_contact: Some(41.7),
        eye_contact_coverage: Some(0.92),
        eyes_covered: Some(0.0),
        mouth_covered: Some(0.0),
        emotions_coverage: Some(1.0),
        blinks_per_minute: None,
        calmness: 58.3,
        valence: 0.12,
        arousal: 0.21,
        model_confidence: Some(0.714),
        presence: Some(55.0),
        parts: Some(Parts { overall_score: Vec::new(), ..parts() }),
        intervals: Some(intervals(&emotions, reach)),
        segments: segments(&rows),
        relative: None,
    }
}

/// Builds findings. Intervals extend `reach` points to both sides.
fn findings(duration_s: f64, interval_s: f64, rows: Vec<TimelineRow>, reach: f64, warnings: &[Warning]) -> Findings {
    let people = rows.iter().map(|row| row.face).max().unwrap_or(0);
    let all: Vec<&TimelineRow> = rows.iter().collect();
    let emotions = (!rows.is_empty()).then(|| mean(&all));
    let read = |value: f64| (!rows.is_empty()).then_some(value);
    let summary = Summary {
        dominant_emotion: emotions.as_ref().map(top),
        calmness: read(58.3),
        eye_contact: read(41.7),
        eye_contact_coverage: read(0.92),
        eyes_covered: read(0.0),
        mouth_covered: read(0.0),
        emotions_coverage: read(1.0),
        blinks_per_minute: None,
        model_confidence: read(0.714),
        valence: read(0.12),
        arousal: read(0.21),
        presence: read(55.0),
        overall_score: read(55.0),
        parts: emotions.as_ref().map(|_| parts()),
        intervals: emotions.as_ref().map(|emotions| {
            let all = intervals(emotions, reach);
            Intervals { overall_score: all.presence, ..all }
        }),
        emotions,
        ..Summary::default()
    };
    let video = VideoFacts {
        duration_s,
        fps: 23.976,
        width: 1280,
        height: 720,
        codec: "h264".to_owned(),
        frames_total: (duration_s * 23.976) as u64,
        frames_analyzed: (duration_s / interval_s).ceil() as u64,
        has_audio: true,
        turned: 0,
        stream_orientation: None,
        start_s: 0.0,
    };
    let models = [("yunet", 'a'), ("emotion", 'b')]
        .map(|(name, digit)| ModelUsed { name: name.to_owned(), sha256: digit.to_string().repeat(64) });
    let faces: Vec<FaceSummary> = (1..=people).map(|id| face(id, &rows, reach)).collect();
    let runs = if let [only] = faces.as_slice() { only.segments.as_slice() } else { &[] };
    let story = summary.emotions.as_ref().and_then(|emotions| Story::of(emotions, runs));
    let analysis = Analysis {
        video,
        summary: Summary { story, ..summary },
        speech: None,
        faces,
        models: models.to_vec(),
        metrics_version: METRICS_VERSION,
        warnings: Vec::new(),
        warning_codes: warnings.to_vec(),
    };
    Findings { analysis, timeline: Timeline { interval_s, rows } }
}

/// Returns the times of samples from `from` to before `to`, 0.8 s apart.
fn times(from: f64, to: f64) -> impl Iterator<Item = f64> {
    (0_u32..).map(|n| f64::from(n) * 0.8).skip_while(move |t| *t < from).take_while(move |t| *t < to)
}

/// Returns rows of a person who is sad until 8 s and happy afterwards.
fn sad_then_happy(face: u32, from: f64, to: f64) -> impl Iterator<Item = TimelineRow> {
    times(from, to).map(move |t| {
        let (emotion, strength) = if t < 8.0 { (Emotion::Sad, 0.7) } else { (Emotion::Happy, 1.1) };
        row(face, t, leaning(emotion, strength, t))
    })
}

/// One person who speaks, for 20 seconds.
pub fn one() -> Findings {
    let mut found = findings(19.7, 0.8, sad_then_happy(1, 0.0, 19.7).collect(), 13.0, &[]);
    found.analysis.speech = Some(Speech {
        ratio: 0.808,
        clarity: Some(52.7),
        quality_mos: Some(SpeechQuality { sig: 3.65, bak: 3.63, ovr: 3.11 }),
        syllables_per_s: Some(3.56),
        fluency: Some(88.4),
        pauses: 9,
        longest_pause_s: 2.5,
        spans: [(0.3, 6.1), (8.6, 12.0), (12.9, 19.5)].map(|(start_s, end_s)| Span { start_s, end_s }).into(),
    });
    found.analysis.faces[0].relative = Some(Relative::TooBrief);
    let summary = &mut found.analysis.summary;
    (summary.presence, summary.overall_score) = (Some(61.0), Some(59.0));
    if let (Some(parts), Some(intervals)) = (&mut summary.parts, &mut summary.intervals) {
        let part = |part, value, weight| WeightedPart { part, value, weight };
        parts.presence = vec![
            part(PartName::EyeContact, 41.7, 0.4),
            part(PartName::Calmness, 58.3, 0.25),
            part(PartName::Fluency, 88.4, 0.2),
            part(PartName::Steadiness, 75.0, 0.15),
        ];
        parts.overall_score = vec![part(PartName::Presence, 61.0, 0.75), part(PartName::SpeechClarity, 52.7, 0.25)];
        intervals.calmness = Interval { low: 49.0, high: 66.0 };
        intervals.presence = Some(Interval { low: 52.0, high: 69.0 });
        intervals.overall_score = Some(Interval { low: 52.0, high: 65.0 });
    }
    summary.remarks = vec![
        Remark::Strongest(Finding {
            part: PartName::Calmness,
            value: 58.3,
            certainty: Certainty::Clear,
            interval: None,
            span: None,
            reason: None,
        }),
        Remark::Try { advice: Advice::KeepEyesUp },
    ];
    found
}

/// Two people. The second one is surprised, and seen only in the middle.
pub fn two() -> Findings {
    let second = times(6.0, 14.0).map(|t| row(2, t, leaning(Emotion::Surprise, 0.4, t + 3.0)));
    let mut rows: Vec<_> = sad_then_happy(1, 0.0, 19.7).chain(second).collect();
    rows.sort_by(|a, b| a.time_s.total_cmp(&b.time_s));
    findings(19.7, 0.8, rows, 25.0, &[Warning::VideoCutOff { expected_s: 21.8, end_s: 19.7 }])
}

/// One person who leaves and comes back.
pub fn gap() -> Findings {
    findings(19.7, 0.8, sad_then_happy(1, 0.0, 6.0).chain(sad_then_happy(1, 12.0, 19.7)).collect(), 15.0, &[])
}

/// No face.
pub fn nobody() -> Findings {
    findings(12.0, 0.8, Vec::new(), 0.0, &[Warning::NoFace])
}

/// Four samples.
pub fn short() -> Findings {
    findings(3.2, 0.8, sad_then_happy(1, 0.0, 3.2).collect(), 40.0, &[])
}

/// 90 minutes with a pause.
pub fn long() -> Findings {
    let seconds = (0..5400).filter(|t| !(2400..2700).contains(t)).map(f64::from);
    let rows = seconds.map(|t| {
        let emotion = Emotion::ALL[(t / 700.0) as usize % 7];
        row(1, t, leaning(emotion, 0.5, t))
    });
    findings(5400.0, 1.0, rows.collect(), 1.5, &[])
}

/// 6:30 of one person who is usually sad, and happy in turns of ten seconds.
pub fn alternating() -> Findings {
    let rows = (0..390).map(f64::from).map(|t| {
        let (emotion, strength) =
            if ((t / 10.0) as u32).is_multiple_of(2) { (Emotion::Sad, 0.7) } else { (Emotion::Happy, 1.1) };
        row(1, t, leaning(emotion, strength, t))
    });
    let mut found = findings(390.0, 1.0, rows.collect(), 5.0, &[]);
    let face = &mut found.analysis.faces[0];
    for segment in &mut face.segments {
        segment.relative = Some(if segment.emotion == Emotion::Sad { 0.2 } else { 2.6 });
    }
    let rises = face.segments.iter().filter(|segment| segment.emotion == Emotion::Happy);
    let rise = |&Segment { emotion, start_s, end_s, samples, .. }: &Segment| Rise {
        emotion,
        start_s,
        end_s,
        samples,
        relative: 2.6,
    };
    let usual = [(Emotion::Sad, 0.62), (Emotion::Neutral, 0.147), (Emotion::Happy, 0.058)];
    face.relative = Some(Relative::Compared { usual: usual.into(), rises: rises.map(rise).collect() });
    found
}

/// A face that is seen for 2 of 6.4 seconds.
pub fn brief() -> Findings {
    let rows = (0..8).map(|n| row(1, f64::from(n) * 0.2, leaning(Emotion::Happy, 1.1, f64::from(n) * 0.2)));
    let mut found = findings(6.4, 0.2, rows.collect(), 30.0, &[]);
    found.analysis.faces[0].segments = vec![Segment {
        emotion: Emotion::Happy,
        start_s: 0.0,
        end_s: 2.0,
        samples: 8,
        confidence: 0.8,
        relative: None,
    }];
    found
}
