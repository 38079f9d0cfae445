//! The role that follows git: fetches, publishes, and offers the table of sites and their packs.
//!
//! One task watches the `StaticSites`, one takes due sites from the queue, and each fetch runs in a
//! thread of its own with a deadline, so no server of git delays another site.
//!
//! | module | content | touches |
//! | --- | --- | --- |
//! | [`options`] | command line | nothing |
//! | [`desired`] | a `StaticSite` as the syncer sees it, and the syncer's part of its status | nothing |
//! | [`feed`] | the changes of the table for servers | nothing |
//! | [`previews`] | the previews of all sites | git, the disk, the API server |
//! | [`shared`] | the state that all tasks share | nothing |
//! | [`work`] | one fetch and its publishing | git, the disk |
//! | [`cluster`] | watches, Secrets and status | the API server |
//! | [`event`] | changes of the state as events | nothing |
//! | [`ledger`] | the limit of events | nothing |
//! | [`report`] | outcomes → status, counters and the log | the API server |
//! | [`run`] | the tasks | all of them |
//! | [`serve`] | webhooks, requests, table and packs over HTTP | the network |
//! | [`known`] | the sites of both groups, from the events of watches | nothing |
//! | [`follow`] | the watches | the API server, the disk |
//! | [`lead`] | the election among several syncers | the API server |
//! | [`roll`] | rollbacks | the disk |
//! | [`peer`] | a following syncer: copies of revisions, and requests for the leader | the network, the disk |
//! | [`upload`] | archives over HTTP | the network, the disk |
//! | [`reply`] | answers for people, and proofs by tokens | files with tokens |
//! | [`status`] | the status page | the network |
//! | [`metrics`] | numbers for Prometheus | nothing |

pub mod cluster;
pub mod desired;
pub mod event;
pub mod feed;
pub mod follow;
pub mod known;
pub mod lead;
pub mod ledger;
pub mod metrics;
pub mod options;
pub mod peer;
pub mod previews;
pub mod reply;
pub mod report;
pub mod roll;
pub mod run;
pub mod serve;
pub mod shared;
pub mod status;
pub mod upload;
pub mod work;

pub use run::start;
