//! What the control plane counts. It outlives a restart of the control plane, so that counters never fall.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::StatusCode;

macro_rules! counts {
    ($($(#[doc = $doc:literal])* $name:ident $metric:literal $labels:literal;)*) => {
        /// Counters; every one only rises.
        #[derive(Default, Debug)]
        pub(crate) struct Counts {
            $($(#[doc = $doc])* pub(crate) $name: AtomicU64,)*
        }

        impl Counts {
            /// Metric, help, labels and value; those of one metric follow each other.
            pub(crate) fn all(&self) -> Vec<(&'static str, &'static str, &'static str, u64)> {
                vec![$(($metric, concat!($($doc),*), $labels, self.$name.load(Ordering::Relaxed)),)*]
            }
        }
    };
}

counts! {
    /// HTTP requests answered, by class of status.
    http_2xx "ringdesk_http_requests_total" "class=\"2xx\"";
    /// HTTP requests answered, by class of status.
    http_3xx "ringdesk_http_requests_total" "class=\"3xx\"";
    /// HTTP requests answered, by class of status.
    http_4xx "ringdesk_http_requests_total" "class=\"4xx\"";
    /// HTTP requests answered, by class of status.
    http_5xx "ringdesk_http_requests_total" "class=\"5xx\"";
    /// Connections taken from the shards.
    taken "ringdesk_http_connections_taken_total" "";
    /// Connections given back to the shards for an upgrade.
    given_back "ringdesk_http_connections_given_back_total" "";
    /// Logins by outcome.
    login_good "ringdesk_logins_total" "outcome=\"good\"";
    /// Logins by outcome.
    login_refused "ringdesk_logins_total" "outcome=\"refused\"";
    /// Logins by outcome.
    login_limited "ringdesk_logins_total" "outcome=\"limited\"";
    /// Logins by outcome.
    login_busy "ringdesk_logins_total" "outcome=\"busy\"";
    /// Orders that found no room in a shard's mailbox.
    orders_refused "ringdesk_orders_refused_total" "";
    /// Starts of the control plane since the process began.
    lives "ringdesk_control_starts_total" "";
    /// Panics of the control plane that were caught.
    panics "ringdesk_control_panics_total" "";
}

impl Counts {
    /// Adds one.
    pub(crate) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// An answer went out.
    pub(crate) fn answered(&self, status: StatusCode) {
        Counts::add(match status.as_u16() {
            500.. => &self.http_5xx,
            400.. => &self.http_4xx,
            300.. => &self.http_3xx,
            _ => &self.http_2xx,
        });
    }
}
