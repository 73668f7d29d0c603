//! What `object_store` has no call for: making a bucket, and ending uploads that broke off.
//!
//! An upload in parts that broke off is invisible and is billed until it is ended. S3's own way is a rule of the
//! bucket (`AbortIncompleteMultipartUpload`), which not every bucket has and not every server knows.
//!
//! Protocol: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html> and
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html>.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use http::{Method, Request, StatusCode};
use object_store::aws::AwsAuthorizer;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{Error, Result};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::bucket::Bucket;

/// What stands for itself in a query that is signed.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// The region whose buckets are made without naming it.
const UNNAMED_REGION: &str = "us-east-1";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listing {
    #[serde(default)]
    is_truncated: bool,
    #[serde(default)]
    next_key_marker: String,
    #[serde(default)]
    next_upload_id_marker: String,
    #[serde(default, rename = "Upload")]
    uploads: Vec<Upload>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Upload {
    key: String,
    upload_id: String,
    initiated: DateTime<Utc>,
}

fn generic(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Generic { store: "S3", source: source.into() }
}

impl Bucket {
    /// Makes the bucket, unless it is there.
    ///
    /// # Errors
    /// When S3 refuses, or is away.
    pub(super) async fn create(&self) -> Result<()> {
        let region = &self.client().region;
        let body = if region == UNNAMED_REGION {
            String::new()
        } else {
            format!(
                "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><LocationConstraint>\
                 {region}</LocationConstraint></CreateBucketConfiguration>"
            )
        };
        let (status, text) = self.ask(Method::PUT, "", body).await?;
        let is_there = status == StatusCode::CONFLICT && text.contains("BucketAlreadyOwnedByYou");
        if status.is_success() || is_there { Ok(()) } else { Err(self.refused(&text)) }
    }

    /// Ends the uploads of objects below `prefix` that were begun before `before`, and gives their number.
    ///
    /// # Errors
    /// When S3 refuses, or is away.
    pub(super) async fn end_uploads(&self, prefix: &Path, before: DateTime<Utc>) -> Result<u64> {
        let (mut ended, mut from) = (0, String::new());
        loop {
            let query = format!("uploads=&prefix={}{from}", utf8_percent_encode(prefix.as_ref(), PLAIN));
            let (status, text) = self.ask(Method::GET, &query, String::new()).await?;
            if !status.is_success() {
                return Err(self.refused(&text));
            }
            let listing: Listing = quick_xml::de::from_str(&text).map_err(generic)?;
            for upload in listing.uploads.iter().filter(|upload| upload.initiated < before) {
                let path = Path::parse(&upload.key)?;
                self.store().abort_multipart(&path, &upload.upload_id).await.map_err(|error| self.told(error))?;
                ended += 1;
            }
            if !listing.is_truncated || listing.next_key_marker.is_empty() {
                return Ok(ended);
            }
            from = format!(
                "&key-marker={}&upload-id-marker={}",
                utf8_percent_encode(&listing.next_key_marker, PLAIN),
                utf8_percent_encode(&listing.next_upload_id_marker, PLAIN)
            );
        }
    }

    fn refused(&self, text: &str) -> Error {
        self.told(generic(text.to_string()))
    }

    /// One signed request to the bucket itself.
    async fn ask(&self, method: Method, query: &str, body: String) -> Result<(StatusCode, String)> {
        let client = self.client();
        let credential = client.credentials.get_credential().await?;
        let url = format!("{}?{query}", client.bucket_url(self.name()));
        let request = Request::builder().method(method).uri(url.trim_end_matches('?'));
        let mut request = request.body(body.into()).map_err(generic)?;
        AwsAuthorizer::new(&credential, "s3", &client.region).authorize(&mut request, None);
        let answer = client.http.execute(request).await.map_err(generic)?;
        let status = answer.status();
        let pieces: Vec<Bytes> = answer.into_body().bytes_stream().map_err(generic).try_collect().await?;
        Ok((status, String::from_utf8_lossy(&pieces.concat()).into_owned()))
    }
}
