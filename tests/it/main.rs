//! Integration tests against real parts: a database, an S3 server and an SMTP server on loopback, and real clips.
//! They are one binary, so that it is linked once, with one module per subject.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may panic on an error")]

mod support;

mod api;
mod batches;
mod blob;
mod cli;
mod compare;
mod compat;
mod consent;
mod converter;
mod deepface;
mod encodings;
mod end_to_end;
mod hostile;
mod identity;
mod isolation;
mod keys;
mod kill;
mod limits;
mod live;
mod lockout;
mod mail;
mod metrics;
mod modules;
mod notice;
mod openapi;
mod outage;
mod page;
mod pictures;
mod pipeline;
mod share;
mod sources;
mod speech;
mod store;
mod thumbnails;
mod timeline;
mod traces;
mod uploads;
mod vision;
mod waiting;
mod webhooks;
mod worker;
