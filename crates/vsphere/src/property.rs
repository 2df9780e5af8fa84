//! Properties of objects: asked for in batches, because a server need not page by itself.

use roxmltree::Node;

use crate::client::Client;
use crate::element::Element as _;
use crate::error::VsphereError;
use crate::fault::MethodFault;
use crate::moref::MoRef;
use crate::soap::{self, NoResult, Request};

/// Further answers that one batch may come in.
const MAX_CONTINUATIONS: usize = 1000;

/// Objects in one list; the largest vCenters have some ten thousand VMs.
const MAX_REFERENCES: usize = 200_000;

/// Views that are made for one list; a session that ends between each of them and its reading is no session.
const MAX_VIEWS: usize = 3;

/// One object of an answer.
pub(crate) struct Object<'a, 'i> {
    pub(crate) moref: MoRef,
    node: Node<'a, 'i>,
}

impl<'a, 'i: 'a> Object<'a, 'i> {
    /// The value of a property; unset is none.
    pub(crate) fn value(&self, name: &str) -> Option<Node<'a, 'i>> {
        let mut all = self.node.children_named("propSet");
        all.find(|it| it.child("name").and_then(|it| it.text()) == Some(name))?.child("val")
    }

    /// A property that is a text.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.value(name)?.content()
    }

    /// A property that is a number.
    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.value(name)?.text()?.trim().parse().ok()
    }

    /// A property that is a boolean.
    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        crate::element::flag(self.value(name)?)
    }

    /// A property that is a reference.
    pub(crate) fn reference(&self, name: &str) -> Option<MoRef> {
        self.value(name)?.moref()
    }

    /// What could not be read: paths with their faults.
    pub(crate) fn missing(&self) -> impl Iterator<Item = (String, MethodFault)> {
        self.node.children_named("missingSet").filter_map(|it| {
            let fault = MethodFault::decode_localized(it.child("fault")?)?;
            Some((it.text_of("path").unwrap_or_default(), fault))
        })
    }

    /// Refuses an object of which something cannot be read: that is no sign that there is none.
    pub(crate) fn readable(&self) -> Result<(), NoResult> {
        self.missing().next().map_or(Ok(()), |(_, fault)| Err(NoResult::Fault(fault)))
    }
}

/// A batch's answer, and where there is more of it.
pub(crate) struct Batch<T> {
    pub(crate) objects: Vec<T>,
    pub(crate) token: Option<String>,
}

/// Decodes the response of `RetrievePropertiesEx` or `ContinueRetrievePropertiesEx`.
///
/// A server that has lost the session answers success, and says at each object that the caller is not authenticated;
/// taking that for absent properties would make an empty inventory of it.
pub(crate) fn decode_batch<T>(
    response: Node<'_, '_>,
    decode: &impl Fn(&Object<'_, '_>) -> Result<T, NoResult>,
) -> Result<Batch<T>, NoResult> {
    let Some(result) = response.child("returnval") else {
        return Ok(Batch { objects: Vec::new(), token: None });
    };
    let mut objects = Vec::new();
    for node in result.children_named("objects") {
        let moref = node.moref_of("obj");
        let moref = moref.ok_or_else(|| NoResult::garbled("an object has no reference"))?;
        let object = Object { moref, node };
        let lost = object.missing().find(|(_, fault)| fault.is_not_authenticated());
        if let Some((_, fault)) = lost {
            return Err(NoResult::Fault(fault));
        }
        objects.push(decode(&object)?);
    }
    Ok(Batch { objects, token: result.text_of("token") })
}

impl Client {
    /// Properties of objects of one kind, in one batch; an object that is gone is left out.
    pub(crate) async fn properties<T: Send + 'static>(
        &self,
        kind: &str,
        objects: &[MoRef],
        paths: &[&str],
        decode: impl Fn(&Object<'_, '_>) -> Result<T, NoResult> + Clone + Send + 'static,
    ) -> Result<Vec<T>, VsphereError> {
        if objects.is_empty() {
            return Ok(Vec::new());
        }
        let collector = &self.content().property_collector;
        let request = Request::read("RetrievePropertiesEx", collector);
        let request = request.xml(&specification(kind, objects, paths));
        let read = move |it: Node<'_, '_>| decode_batch(it, &decode);
        let Batch { objects: mut all, mut token } = self.call(&request, read.clone()).await?;
        for _ in 0..MAX_CONTINUATIONS {
            check_bounds(all.len(), objects.len())?;
            let Some(next) = token else { return Ok(all) };
            let before = all.len();
            // A token is good once, so a loss here is an error and not a reason to ask again.
            let request = Request::once("ContinueRetrievePropertiesEx", collector);
            let more = self.call(&request.text("token", &next), read.clone()).await?;
            all.extend(more.objects);
            token = more.token;
            if all.len() == before && token.is_some() {
                break;
            }
        }
        let detail = "it goes on without end".to_owned();
        Err(VsphereError::Garbled { method: "ContinueRetrievePropertiesEx", detail })
    }

    /// Properties of one object; none where it is gone.
    pub(crate) async fn properties_of<T: Send + 'static>(
        &self,
        object: &MoRef,
        paths: &[&str],
        decode: impl Fn(&Object<'_, '_>) -> Result<T, NoResult> + Clone + Send + 'static,
    ) -> Result<Option<T>, VsphereError> {
        let one = std::slice::from_ref(object);
        match self.properties(&object.kind, one, paths, decode).await {
            Ok(found) => Ok(found.into_iter().next()),
            Err(VsphereError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All objects of some kinds below the root.
    pub(crate) async fn references(&self, kinds: &[&str]) -> Result<Vec<MoRef>, VsphereError> {
        for _ in 0..MAX_VIEWS {
            if let Some(listed) = self.in_a_view(kinds).await? {
                return Ok(listed);
            }
            tracing::debug!("a view has ended with its session, and a new one is made");
        }
        Err(VsphereError::SessionLost(self.endpoint().authority()))
    }

    /// The same; none where the view ended with its session, which says nothing about what there is.
    async fn in_a_view(&self, kinds: &[&str]) -> Result<Option<Vec<MoRef>>, VsphereError> {
        let content = self.content();
        // A view changes nothing but the session's own memory, so asking twice does no harm.
        let mut request = Request::read("CreateContainerView", &content.view_manager);
        request = request.moref("container", &content.root_folder);
        for kind in kinds {
            request = request.text("type", kind);
        }
        let request = request.text("recursive", "true");
        let view = self.call(&request, |it| {
            it.moref_of("returnval").ok_or_else(|| NoResult::garbled("it makes no view"))
        });
        let view = view.await?;
        let listed = self.properties_of(&view, &["view"], |it| match it.missing().next() {
            // What cannot be read is no empty list.
            Some((_, fault)) => Err(NoResult::Fault(fault)),
            None => references(it.value("view"), MAX_REFERENCES),
        });
        let Some(listed) = listed.await? else { return Ok(None) };
        let gone = self.call(&Request::once("DestroyView", &view), |_| Ok(())).await;
        if let Err(error) = gone {
            tracing::debug!(error = %error, "a view goes with its session");
        }
        Ok(Some(listed))
    }
}

/// Without bounds a server that goes on and on decides how much memory an answer takes.
fn check_bounds(found: usize, asked: usize) -> Result<(), VsphereError> {
    if found <= asked {
        return Ok(());
    }
    let detail = format!("it tells of {found} objects and was asked for {asked}");
    Err(VsphereError::Garbled { method: "RetrievePropertiesEx", detail })
}

/// The references in a property; more than that is no list that anybody works through.
pub(crate) fn references(value: Option<Node<'_, '_>>, most: usize) -> Result<Vec<MoRef>, NoResult> {
    let all = value.into_iter().flat_map(|it| it.children().filter(Node::is_element));
    let all: Vec<_> = all.filter_map(|it| it.moref()).take(most + 1).collect();
    if all.len() > most {
        return Err(NoResult::Garbled(format!("it lists more than {most} objects")));
    }
    Ok(all)
}

fn specification(kind: &str, objects: &[MoRef], paths: &[&str]) -> String {
    let mut out = String::from("<specSet><propSet>");
    soap::text(&mut out, "type", kind);
    soap::text(&mut out, "all", "false");
    for path in paths {
        soap::text(&mut out, "pathSet", path);
    }
    out.push_str("</propSet>");
    for object in objects {
        out.push_str("<objectSet>");
        soap::moref(&mut out, "obj", object);
        soap::text(&mut out, "skip", "false");
        out.push_str("</objectSet>");
    }
    // One VM that was deleted a moment ago must not fail the others of its batch.
    soap::text(&mut out, "reportMissingObjectsInResults", "true");
    out.push_str("</specSet><options>");
    soap::text(&mut out, "maxObjects", &objects.len().to_string());
    out.push_str("</options>");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(objects: &str) -> String {
        format!(
            "<e:Envelope xmlns:e=\"http://schemas.xmlsoap.org/soap/envelope/\" xmlns:_XMLSchema-instance=\"http://www.w3.org/2001/XMLSchema-instance\"><e:Body><RetrievePropertiesExResponse xmlns=\"urn:vim25\">{objects}</RetrievePropertiesExResponse></e:Body></e:Envelope>"
        )
    }

    fn names(xml: &str) -> Result<Batch<(MoRef, Option<String>)>, NoResult> {
        let document = soap::parse(xml)?;
        let response = soap::response(&document, "RetrievePropertiesEx")?;
        decode_batch(response, &|it| Ok((it.moref.clone(), it.text("name"))))
    }

    #[test]
    fn an_unset_property_is_none_and_a_token_says_that_there_is_more() {
        let xml = answer(
            "<returnval><token>7</token><objects><obj type=\"VirtualMachine\">vm-1</obj><propSet><name>name</name><val _XMLSchema-instance:type=\"xsd:string\">web</val></propSet></objects><objects><obj type=\"VirtualMachine\">vm-2</obj></objects></returnval>",
        );
        let batch = names(&xml).unwrap();
        let expected = vec![(MoRef::vm("vm-1"), Some("web".to_owned())), (MoRef::vm("vm-2"), None)];
        assert_eq!(batch.objects, expected);
        assert_eq!(batch.token.as_deref(), Some("7"));
        assert!(names(&answer("")).unwrap().objects.is_empty());
    }

    #[test]
    fn a_lost_session_in_an_answer_of_success_is_no_empty_inventory() {
        let xml = answer(
            "<returnval><objects><obj type=\"VirtualMachine\">vm-1</obj><missingSet><path>name</path><fault><fault _XMLSchema-instance:type=\"NotAuthenticated\"><object type=\"Folder\">group-d1</object><privilegeId>System.View</privilegeId></fault><localizedMessage>The session is not authenticated.</localizedMessage></fault></missingSet></objects></returnval>",
        );
        let Err(NoResult::Fault(fault)) = names(&xml) else { panic!("it is a fault") };
        assert!(fault.is_not_authenticated());
    }

    #[test]
    fn a_list_without_end_is_no_list() {
        let xml = format!("<val>{}</val>", "<r type=\"Task\">t</r>".repeat(3));
        let document = soap::parse(&xml).unwrap();
        let value = Some(document.root_element());
        assert_eq!(references(value, 3).unwrap().len(), 3);
        assert!(matches!(references(value, 2), Err(NoResult::Garbled(_))));
        assert!(references(None, 2).unwrap().is_empty());
    }

    #[test]
    fn more_objects_than_were_asked_for_are_refused() {
        assert!(check_bounds(2, 2).is_ok());
        assert!(check_bounds(3, 2).is_err());
    }
}
