"""Clusters of real processes, and computers with engines of their own.

What breaks, and the tests that show what users see then:

- A container or module dies: `integration/test_faults.py::test_container_that_is_hurt_by_hand_heals`
- It exits 0: `integration/test_faults.py::test_service_that_ends_with_exit_code_0_is_started_again`
- It hangs: `node/reconciler/test_machine.py::test_a_copy_that_fails_its_liveness_probe_is_stopped_and_started_again`
- A node loses power: `cluster/test_bed.py::test_the_leaders_computer_loses_its_power_and_users_hardly_notice`
- All do: `cluster/test_bed.py::test_all_is_there_again_after_all_lost_their_power`
- A node is cut off:
  `cluster/test_bed_network.py::test_a_computer_that_is_cut_off_serves_on_alone_and_nothing_is_doubled_once_it_is_back`
- Two nodes do not hear each other:
  `cluster/test_bed_network.py::test_two_that_do_not_hear_each_other_serve_through_the_third_and_nothing_moves`
- A node comes back:
  `cluster/test_node_death.py::test_copies_of_a_node_that_dies_run_elsewhere_in_time_and_not_twice_when_it_is_back`
- The node's own process is killed:
  `cluster/test_bed.py::test_a_node_that_is_killed_leaves_its_containers_which_serve_on`
- The leader dies or hangs: `cluster/test_bed.py::test_a_deploy_goes_through_while_the_leader_is_paused`
- The leader is cut off:
  `cluster/test_partitions.py::test_leader_that_is_cut_off_acknowledges_nothing_and_follows_when_it_is_back`
- A voter is gone for good:
  `cluster/test_quorum.py::test_voter_that_is_killed_for_good_is_replaced_and_the_next_write_takes_an_election_at_most`
- Most voters are gone:
  `cluster/test_quorum.py::test_group_that_lost_its_quorum_for_good_is_started_anew_from_a_survivor`
- Docker is down: `integration/test_engine_faults.py::test_stopped_engine_is_said_and_comes_back`
- Docker hangs: `cluster/test_bed.py::test_an_engine_that_hangs_is_told_and_costs_no_request`
- The disk is full:
  `cluster/test_disk_full.py::test_leader_whose_disk_is_full_lets_another_lead_and_comes_back_with_room`
- The store is full: `integration/test_startup.py::test_full_store_refuses_changes_and_services_go_on`
- A clock jumps: `cluster/test_bed_network.py::test_a_clock_that_jumps_changes_nothing`
- A bad spec: `integration/test_bad_input.py::test_wrong_service_file_is_refused_with_its_place`
- A bad token:
  `cluster/test_join.py::test_wrong_used_expired_and_foreign_tokens_are_refused_by_name_and_nothing_changes`
- A bad request: `integration/test_curl.py::test_curl_is_told_what_is_wrong_with_its_request`
"""
