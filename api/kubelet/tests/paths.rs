//! The paths that our clients call are those that the kubelet calls and serves.

use std::sync::{Arc, Mutex};

use tessera_kubelet_api::device_plugin_v1beta1::device_plugin_client::DevicePluginClient;
use tessera_kubelet_api::device_plugin_v1beta1::registration_client::RegistrationClient as DevicePluginRegistration;
use tessera_kubelet_api::pod_resources_v1::pod_resources_lister_client::PodResourcesListerClient;
use tessera_kubelet_api::registration::registration_client::RegistrationClient;
use tessera_kubelet_api::{dra_v1, dra_v1beta1, health_v1, health_v1alpha1};
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;
use tonic::{Code, Status};

/// Calls each named method with an empty message, over a transport that notes the path and serves nothing.
macro_rules! paths {
    ($($client:ty: $($method:ident),+;)+) => {{
        let called = Arc::new(Mutex::new(Vec::new()));
        let transport = {
            let called = called.clone();
            tower::service_fn(move |request: Request<Body>| {
                called.lock().unwrap().push(request.uri().path().to_owned());
                std::future::ready(Ok::<_, Status>(unserved()))
            })
        };
        $({
            let mut client = <$client>::new(transport.clone());
            $(
                let refused = client.$method(tonic::Request::new(Default::default())).await.err().map(|status| status.code());
                assert_eq!(refused, Some(Code::Unimplemented));
            )+
        })+
        std::mem::take(&mut *called.lock().unwrap())
    }};
}

fn unserved() -> Response<Body> {
    Status::unimplemented("only the path matters").into_http()
}

#[tokio::test]
async fn methods_have_the_paths_of_kubernetes() {
    let called = paths! {
        RegistrationClient<_>: get_info, notify_registration_status;
        dra_v1::dra_plugin_client::DraPluginClient<_>: node_prepare_resources, node_unprepare_resources;
        dra_v1beta1::dra_plugin_client::DraPluginClient<_>: node_prepare_resources, node_unprepare_resources;
        health_v1::dra_resource_health_client::DraResourceHealthClient<_>: node_watch_resources;
        health_v1alpha1::dra_resource_health_client::DraResourceHealthClient<_>: node_watch_resources;
        DevicePluginRegistration<_>: register;
        DevicePluginClient<_>: get_device_plugin_options, list_and_watch, get_preferred_allocation, allocate,
            pre_start_container;
        PodResourcesListerClient<_>: list, get_allocatable_resources, get;
    };
    let expected = [
        "/pluginregistration.Registration/GetInfo",
        "/pluginregistration.Registration/NotifyRegistrationStatus",
        "/k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin/NodePrepareResources",
        "/k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin/NodeUnprepareResources",
        "/k8s.io.kubelet.pkg.apis.dra.v1beta1.DRAPlugin/NodePrepareResources",
        "/k8s.io.kubelet.pkg.apis.dra.v1beta1.DRAPlugin/NodeUnprepareResources",
        "/v1.DRAResourceHealth/NodeWatchResources",
        "/v1alpha1.DRAResourceHealth/NodeWatchResources",
        "/v1beta1.Registration/Register",
        "/v1beta1.DevicePlugin/GetDevicePluginOptions",
        "/v1beta1.DevicePlugin/ListAndWatch",
        "/v1beta1.DevicePlugin/GetPreferredAllocation",
        "/v1beta1.DevicePlugin/Allocate",
        "/v1beta1.DevicePlugin/PreStartContainer",
        "/v1.PodResourcesLister/List",
        "/v1.PodResourcesLister/GetAllocatableResources",
        "/v1.PodResourcesLister/Get",
    ];
    assert_eq!(called, expected);
}

/// A server finds its service by this name, the first part of the path.
#[test]
fn servers_answer_to_the_names_of_kubernetes() {
    fn name<S: NamedService>() -> &'static str {
        S::NAME
    }
    assert_eq!(name::<dra_v1::dra_plugin_server::DraPluginServer<()>>(), "k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin");
    assert_eq!(
        name::<dra_v1beta1::dra_plugin_server::DraPluginServer<()>>(),
        "k8s.io.kubelet.pkg.apis.dra.v1beta1.DRAPlugin"
    );
    assert_eq!(name::<health_v1::dra_resource_health_server::DraResourceHealthServer<()>>(), "v1.DRAResourceHealth");
    assert_eq!(
        name::<health_v1alpha1::dra_resource_health_server::DraResourceHealthServer<()>>(),
        "v1alpha1.DRAResourceHealth"
    );
    assert_eq!(
        name::<tessera_kubelet_api::registration::registration_server::RegistrationServer<()>>(),
        "pluginregistration.Registration"
    );
    assert_eq!(
        name::<tessera_kubelet_api::device_plugin_v1beta1::device_plugin_server::DevicePluginServer<()>>(),
        "v1beta1.DevicePlugin"
    );
}
