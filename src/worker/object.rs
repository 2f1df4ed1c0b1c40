//! Analyzes videos that are objects of buckets of others (`s3://BUCKET/KEY`): streams them from there, like those of
//! visage's own bucket, and deletes them only if `sources.s3_delete` is set.

use tracing::Instrument;

use super::analyzer::AnalysisError;
use super::job::Work;
use super::{SharedState, Worker};
use crate::analysis::FailureReason;
use crate::blob::{ObjectError, Objects};
use crate::config::S3Read;
use crate::fault::{Fault, Part};
use crate::media::Source;
use crate::sources::{AddressRules, ObjectAddress};
use crate::store::Claim;
use crate::telemetry::step;

impl Worker {
    /// The client for buckets of others. It is made when the first job needs it.
    pub(super) async fn objects<'a>(&self, shared: &'a SharedState) -> &'a Objects {
        shared.objects.get_or_init(|| Objects::open(&self.settings.storage.s3)).await
    }

    /// Does some work with an object. Streams it, or copies it first if streaming is switched off or fails.
    pub(super) async fn with_object<T: Send + 'static>(
        &self,
        claim: &Claim,
        object: &str,
        shared: &SharedState,
        work: &Work<T>,
    ) -> Result<T, AnalysisError> {
        let object = self.listed(object)?;
        let failed = |error| failure_of(&object, error);
        let objects = self.objects(shared).await;
        let limit = self.settings.http.max_upload.0;
        let size_bytes = objects.size(&object.bucket, &object.key).await.map_err(failed)?;
        if size_bytes > limit {
            let cause = format!("the object has {size_bytes} bytes");
            return Err(AnalysisError::new(Fault::Video, FailureReason::VideoTooLarge { limit }, cause));
        }
        if self.settings.storage.s3.read == S3Read::Stream {
            let source = objects.source(&object.bucket, &object.key).await.map_err(failed)?;
            match self.on_thread(claim, source, work).await {
                Err(AnalysisError { fault: Fault::Ours(Part::Storage), cause, .. })
                    if !work.run().cancel.is_cancelled() =>
                {
                    tracing::warn!(cause, "cannot stream the video; copying it first");
                }
                result => return result,
            }
        }
        let local = |error: std::io::Error| {
            AnalysisError::new(Fault::Ours(Part::Storage), FailureReason::StorageUnavailable, error)
        };
        let copy = shared.scratch.copy(self.tokens.next()).map_err(local)?;
        let fetching = objects.fetch(&object.bucket, &object.key, copy.path());
        fetching.instrument(step!("copy video")).await.map_err(failed)?;
        self.on_thread(claim, Source::File(copy.path().to_owned()), work).await
    }

    /// Deletes the object of a job that is done, for `sources.s3_delete`. Leaves it if its bucket is not listed any more.
    pub(super) async fn delete_object(&self, object: &str, objects: &Objects) -> Result<(), ObjectError> {
        let Ok(object) = self.listed(object) else { return Ok(()) };
        match objects.delete(&object.bucket, &object.key).await {
            // Another try would be refused, too.
            Err(error @ ObjectError::Status { status: 400..500, .. }) => {
                tracing::warn!(%error, bucket = object.bucket, "the object of an analyzed video may not be deleted");
                Ok(())
            }
            deleted => deleted,
        }
    }

    /// Parses a stored address, and checks that the settings still list its bucket.
    fn listed(&self, object: &str) -> Result<ObjectAddress, AnalysisError> {
        let refused = |host: &str, cause: &dyn std::fmt::Display| {
            AnalysisError::new(Fault::Video, FailureReason::AddressRefused { host: host.to_owned() }, cause)
        };
        let object = ObjectAddress::parse(object).ok_or_else(|| refused("s3", &"the address cannot be parsed"))?;
        let rules = AddressRules::new(&self.settings.sources).map_err(|error| refused(&object.bucket, &error))?;
        rules.check_object(&object).map_err(|error| refused(&object.bucket, &error))?;
        Ok(object)
    }
}

/// The error of a run for an error of the bucket.
fn failure_of(object: &ObjectAddress, error: ObjectError) -> AnalysisError {
    let host = format!("s3://{}", object.bucket);
    let cause = error.to_string();
    let (fault, reason) = match error {
        ObjectError::Status { status, .. } => {
            let fault = if status >= 500 || status == 429 { Fault::Unclear } else { Fault::Video };
            (fault, FailureReason::VideoRefused { host, status })
        }
        ObjectError::Unavailable { .. } => (Fault::Unclear, FailureReason::VideoUnreachable { host }),
        ObjectError::Local(_) => (Fault::Ours(Part::Storage), FailureReason::StorageUnavailable),
    };
    AnalysisError::new(fault, reason, cause)
}
