#!/usr/bin/env python3
"""Checks the manifests on stdin, strictly and offline: Kubernetes' own kinds by its schemas, custom resources by those of
their CRDs, pods by the "restricted" standard and what pg2os promises beyond it.

A kind without a schema, an unknown field and an empty input are errors. All problems are printed; the exit status tells
whether there were any.

usage: validate.py TOOLS < built.yaml      (TOOLS as printed by get.sh)
"""

import glob
import sys

TOOLS = sys.argv[1]
sys.path.insert(0, f"{TOOLS}/lib")

import jsonschema  # noqa: E402
import kubernetes_validate  # noqa: E402
import yaml  # noqa: E402

# The oldest Kubernetes with everything that is used, podFailurePolicy for one (stable since 1.31), and the newest schemas.
VERSIONS = ["1.31", "1.37"]


def strict(schema):
    """An openAPIV3Schema as a JSON schema that refuses fields it does not know, which an API server would drop."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: strict(part) for key, part in schema.items()}
    known = isinstance(schema.get("properties"), dict) and "type" in schema
    if known and not schema.get("x-kubernetes-preserve-unknown-fields"):
        out.setdefault("additionalProperties", False)
    if schema.get("nullable") is True and "type" in schema:
        out["type"] = [schema["type"], "null"]
    return out


def custom_schemas():
    found = {}
    for path in glob.glob(f"{TOOLS}/crd/*.yaml"):
        with open(path) as file:
            crd = yaml.safe_load(file)["spec"]
        for version in crd["versions"]:
            schema = strict(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = {"type": "object"}
            found[f"{crd['group']}/{version['name']}", crd["names"]["kind"]] = schema
    return found


def pod_template(resource):
    spec = resource.get("spec", {})
    if resource["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    return spec.get("template") if resource["kind"] in ("Deployment", "Job", "CronJob") else None


def promises(pod):
    """What a pod of pg2os lacks of what is promised."""
    context = pod.get("securityContext", {})
    wanted = {
        "runAsNonRoot": context.get("runAsNonRoot") is True,
        "seccompProfile RuntimeDefault": context.get("seccompProfile", {}).get("type") == "RuntimeDefault",
        "automountServiceAccountToken false": pod.get("automountServiceAccountToken") is False,
    }
    for container in pod["containers"]:
        own = container.get("securityContext", {})
        wanted |= {
            "readOnlyRootFilesystem": own.get("readOnlyRootFilesystem") is True,
            "allowPrivilegeEscalation false": own.get("allowPrivilegeEscalation") is False,
            "capabilities drop ALL": own.get("capabilities", {}).get("drop") == ["ALL"],
            "memory limit 128Mi": container.get("resources", {}).get("limits", {}).get("memory") == "128Mi",
            "no command of its own (a shell)": "command" not in container,
        }
    return [what for what, is_so in wanted.items() if not is_so]


def problems(resource, custom):
    try:
        schema = custom.get((resource["apiVersion"], resource["kind"]))
        if schema:
            for error in jsonschema.Draft202012Validator(schema).iter_errors(resource):
                yield f"{error.json_path}: {error.message}"
            return
        for version in VERSIONS:
            kubernetes_validate.validate(resource, version, strict=True)
    except kubernetes_validate.SchemaNotFoundError as error:
        yield f"no schema: {error}"
    except kubernetes_validate.ValidationError as error:
        yield str(error)
    template = pod_template(resource)
    if template:
        for what in promises(template["spec"]):
            yield f"lacks {what}"


def main():
    custom = custom_schemas()
    resources = [document for document in yaml.safe_load_all(sys.stdin) if document]
    failed = not resources
    for resource in resources:
        name = f"{resource['kind']}/{resource['metadata']['name']}"
        for problem in problems(resource, custom):
            print(f"{name}: {problem}")
            failed = True
    if not resources:
        print("nothing to check")
    sys.exit(1 if failed else 0)


main()
