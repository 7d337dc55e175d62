//! The instance list read for an analysis: with sizes, ports and volumes, and without environment and command.

use std::cell::RefCell;

use super::closeup::endpoints;
use super::record::{Record, records};
use super::{ListPage, Listed};
use crate::core::rollout::findings::ListedInstance;
use crate::core::world::instance::{Instance, Places};

impl Listed for ListedInstance {
    fn page(body: &[u8]) -> Result<ListPage<Self>, String> {
        let places = RefCell::default();
        records(body, |record| member(&record, &places))
    }

    fn id(&self) -> &str {
        self.instance.id()
    }

    fn caution(&self) -> u8 {
        // One that was listed both as running on demand and otherwise is left alone.
        Instance::caution(&self.instance) + u8::from(!self.is_on_demand())
    }
}

fn member(record: &Record, places: &RefCell<Places>) -> Option<ListedInstance> {
    let instance = record.instance(places)?;
    Some(ListedInstance {
        instance,
        product_name: record.word("productName"),
        gpu_num: record.number("gpuNum"),
        cpu_num: record.number("cpuNum"),
        memory_gb: record.number("memory"),
        rootfs_size: record.number("rootfsSize"),
        fittings: record.fittings(),
        endpoints: endpoints(record),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::world::instance::{Billing, Status};

    fn read(rows: &str) -> Vec<ListedInstance> {
        ListedInstance::page(format!("{{\"instances\":[{rows}],\"total\":1}}").as_bytes()).expect("a page").rows
    }

    #[test]
    fn a_row_has_everything_but_what_may_be_secret() {
        let members = ListedInstance::page(fixture!("recreate-row.json")).expect("a page").rows;
        assert_eq!(members.len(), 2);
        let shown = format!("{members:?}");
        for secret in ["env-secret", "API_TOKEN", "train.py", "/bin/sh"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        let strict = read(
            r#"{"id":"a","name":"n","status":"running","billingMode":"onDemand","productId":"p","clusterId":"c",
            "productName":"P","gpuNum":"2","cpuNum":"16","memory":"62","rootfsSize":60,
            "portMappings":[{"port":8080,"endpoint":"h:1","type":"http"},{"port":2222,"type":"tcp"}],
            "volumeMounts":[{"type":"network","size":"1","id":"v","mountPath":"/n"},{"type":"local","mountPath":"/l"}]}"#,
        );
        let [member] = &strict[..] else { panic!("{strict:?}") };
        assert!(member.is_on_demand());
        let sizes = (member.gpu_num, member.cpu_num, member.memory_gb, member.rootfs_size);
        assert_eq!(sizes, (Some(2), Some(16), Some(62), Some(60)));
        let fittings = member.fittings.as_ref().expect("fittings");
        assert_eq!(fittings.addressed.as_deref(), Some("its ports 8080"), "without the provider's own");
        assert_eq!(fittings.network_volumes, ["v"]);
        assert_eq!(fittings.local_volumes, ["/l"]);
        assert_eq!(member.endpoints.len(), 1);
        let query = member.query().expect("a question");
        assert_eq!((query.cluster_id.as_deref(), query.gpu_num, query.billing.as_str()), (Some("c"), 2, "spot"));
    }

    #[test]
    fn what_cannot_be_read_is_not_known() {
        let loose = read(
            r#"null,{"name":"x"},{"Id":7,"gpuNum":0,"cpuNum":"many","memory":null,"volumeMounts":"none","envs":7},
            {"id":"b","status":"exited","billingMode":"spot","productId":"p","portMappings":{},"gpuNum":1.0}"#,
        );
        let [a, b] = &loose[..] else { panic!("{loose:?}") };
        assert_eq!((a.id(), a.gpu_num, a.cpu_num, a.memory_gb, a.query()), ("7", None, None, None, None));
        assert!(a.fittings.as_ref().is_err_and(|what| what.contains("volumeMounts")));
        assert_eq!((&b.instance.status, &b.instance.billing, b.gpu_num), (&Status::Exited, &Billing::Spot, Some(1)));
        assert_eq!((&b.instance.place, b.query()), (&None, None), "half a place is none");
    }
}
