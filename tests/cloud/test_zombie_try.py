import os, signal, time
from tests.cloud.test_worker import *  # noqa
from tests.cloud.test_worker import SMALL, POOL
for _n in list(globals()):
    if _n.startswith("test_"): del globals()[_n]

def test_zombie(site, loaded):
    endless = SMALL | {"seed": 5, "epochs": 1000, "learning_rate": 1e-6}
    with site.server.worker(POOL, "--type", "docker", "--work-queue", "doomed", DOCKER_HOST=site.engine.address) as worker:
        run = site.wait(site.start("train/docker", endless, queue="doomed"), until=lambda r: r.state.is_running())
        os.killpg(worker.pid, signal.SIGKILL); worker.wait()
    [c] = site.containers(run); c.kill()
    with site.server.worker(POOL, "--type", "docker", "--work-queue", "doomed", DOCKER_HOST=site.engine.address):
        time.sleep(25)
        with site.server.client() as cl:
            print("ZOMBIE", repr(cl.read_flow_run(run.id).state), flush=True)
        print(site.server.prefect("flow-run","cancel",str(run.id)).stdout)
        for _ in range(20):
            time.sleep(2)
            with site.server.client() as cl:
                st = cl.read_flow_run(run.id).state
                if st.is_final(): break
        print("CANCELLED", repr(st), flush=True)
    print(site.log(run)[-700:])
