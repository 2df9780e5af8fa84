"""Reads properties of all VMs of a server with VMware's own client, and says how long that took."""
import json
import os
import ssl
import sys
import time

from pyVim.connect import Disconnect, SmartConnect
from pyVmomi import vim, vmodl

host, port, user, authority = sys.argv[1:5]
paths = sys.argv[5:]
context = ssl.create_default_context(cafile=authority)
# The interpreter and its imports are not counted; logging in is, as it is in a discovery of ours.
started = time.monotonic()
server = SmartConnect(
    host=host, port=int(port), user=user, pwd=os.environ["VSPHERE_PEER_PASSWORD"], sslContext=context
)
content = server.RetrieveContent()
view = content.viewManager.CreateContainerView(content.rootFolder, [vim.VirtualMachine], True)
query = vmodl.query.PropertyCollector
walk = query.TraversalSpec(name="view", path="view", skip=False, type=vim.view.ContainerView)
spec = query.FilterSpec(
    objectSet=[query.ObjectSpec(obj=view, skip=True, selectSet=[walk])],
    propSet=[query.PropertySpec(type=vim.VirtualMachine, pathSet=paths)],
)
options = query.RetrieveOptions(maxObjects=100)
page = content.propertyCollector.RetrievePropertiesEx([spec], options)
vms = 0
while page:
    for it in page.objects:
        # What was read is looked at, as whoever reads it would.
        vms += 1 if {prop.name: prop.val for prop in it.propSet} else 0
    page = content.propertyCollector.ContinueRetrievePropertiesEx(page.token) if page.token else None
Disconnect(server)
print(json.dumps({"seconds": time.monotonic() - started, "vms": vms}))
