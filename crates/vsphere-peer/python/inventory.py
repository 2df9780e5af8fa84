"""Lists the VMs of a server with VMware's own client, for comparison with ours."""
import json
import os
import ssl
import sys

from pyVim.connect import Disconnect, SmartConnect
from pyVmomi import vim, vmodl

host, port, user, authority = sys.argv[1:5]
context = ssl.create_default_context(cafile=authority)
server = SmartConnect(
    host=host, port=int(port), user=user, pwd=os.environ["VSPHERE_PEER_PASSWORD"], sslContext=context
)


def names(tree):
    for node in tree or []:
        yield node.name
        yield from names(node.childSnapshotList)


def snapshots_of(vm):
    # The simulator breaks off when a property that is unset is fetched by itself.
    query = vmodl.query.PropertyCollector
    asked = query.PropertySpec(type=vim.VirtualMachine, pathSet=["snapshot"])
    spec = query.FilterSpec(objectSet=[query.ObjectSpec(obj=vm)], propSet=[asked])
    found = content.propertyCollector.RetrieveContents([spec])
    return found[0].propSet[0].val.rootSnapshotList if found[0].propSet else []


BUSES = [
    (vim.vm.device.VirtualSCSIController, "scsi"),
    (vim.vm.device.VirtualSATAController, "sata"),
    (vim.vm.device.VirtualIDEController, "ide"),
    (vim.vm.device.VirtualNVMEController, "nvme"),
]


def controller_of(vm, disk):
    for it in vm.config.hardware.device:
        if it.key == disk.controllerKey:
            bus = next(name for kind, name in BUSES if isinstance(it, kind))
            return {"bus": bus, "number": it.busNumber, "sharing": getattr(it, "sharedBus", None)}
    return None


def network_of(card):
    backing = card.backing
    port = getattr(backing, "port", None)
    return groups[port.portgroupKey] if port else backing.deviceName


def networks_of(vm):
    cards = vim.vm.device.VirtualEthernetCard
    return [
        {
            "label": it.deviceInfo.label,
            "model": type(it).__name__.rsplit(".", 1)[-1].removeprefix("Virtual").lower(),
            "mac": it.macAddress,
            "network": network_of(it),
        }
        for it in vm.config.hardware.device
        if isinstance(it, cards)
    ]


def described(vm):
    disks = [it for it in vm.config.hardware.device if isinstance(it, vim.vm.device.VirtualDisk)]
    return {
        "moref": vm._moId,
        "name": vm.name,
        "instance_uuid": vm.config.instanceUuid,
        "power": vm.runtime.powerState,
        "version": vm.config.version,
        "tracking": bool(vm.config.changeTrackingEnabled),
        "disks": [
            {
                "key": it.key,
                "bytes": it.capacityInBytes or it.capacityInKB * 1024,
                "file": it.backing.fileName,
                "uuid": getattr(it.backing, "uuid", None),
                "unit": it.unitNumber,
                "mode": getattr(it.backing, "diskMode", None),
                "sharing": getattr(it.backing, "sharing", None),
                "thin": getattr(it.backing, "thinProvisioned", None),
                "controller": controller_of(vm, it),
            }
            for it in disks
        ],
        "networks": networks_of(vm),
        "snapshots": list(names(snapshots_of(vm))),
    }


content = server.RetrieveContent()
port_groups = content.viewManager.CreateContainerView(
    content.rootFolder, [vim.dvs.DistributedVirtualPortgroup], True
)
groups = {it.key: it.name for it in port_groups.view}
view = content.viewManager.CreateContainerView(content.rootFolder, [vim.VirtualMachine], True)
print(json.dumps(sorted((described(vm) for vm in view.view), key=lambda it: it["moref"])))
Disconnect(server)
