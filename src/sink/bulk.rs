//! One bulk request: sent once, its answer read. Whether it is sent again is the lane's decision.

use super::{
    client::{Client, Request},
    outcome::{Answer, BULK_PARAMETERS, read_bulk_answer},
};
use bytes::Bytes;
use reqwest::Method;

impl Client {
    /// Sends `body`, `actions` actions in newline-delimited JSON, in one request (OpenSearch docs: "Bulk").
    ///
    /// `require_alias` for an index that pg2os made, which stands behind an alias: nothing is created by accident when it
    /// is gone. A concrete index that was taken over cannot say it.
    pub async fn bulk(
        &self,
        body: Bytes,
        actions: usize,
        is_delete: impl Fn(usize) -> bool,
        require_alias: bool,
    ) -> Answer {
        let path = format!("/_bulk?{BULK_PARAMETERS}&require_alias={require_alias}");
        match self.send(&Request::new(Method::POST, path).lines(body)).await {
            Ok(response) => {
                if matches!(response.status, 401 | 403) {
                    self.renew();
                }
                read_bulk_answer(response.status, &response.body, actions, is_delete)
            }
            // No doubt about its deletes (M5) and no suspicion against its documents: it has not left this process.
            Err(error) if error.was_never_sent() => Answer::Busy(error.to_string()),
            Err(error) if error.was_cut() => Answer::Cut(error.to_string()),
            Err(error) => Answer::Unknown(error.to_string()),
        }
    }
}
