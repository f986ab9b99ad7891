"""The engine broken in small ways, one at a time: for each, a test that notices. `make mutate` proves it.

Each mutation is tried on a copy of the project, with the one test that is named for it. `python -m tests.mutations
table` prints docs/mutations.md.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENGINE = "tests/integration/test_engine.py::"
ATTACKS = "tests/integration/test_engine_attacks.py::"
CHILDREN = "tests/integration/test_engine_children.py::"
CONNECTIONS = "tests/integration/test_connections.py::"
PRODUCTS = "tests/integration/test_products.py::"
DECISIONS = "tests/unit/test_decisions.py"


@dataclass(frozen=True)
class Mutation:
    """What is broken, in words; where; the piece of code, which must stand there once, and what takes its place; and
    the test that notices."""

    broken: str
    file: str
    code: str
    instead: str
    test: str


MUTATIONS = (
    Mutation(
        "a worker that was overtaken records its outcome",
        "workers/engine/push.py",
        "record is None or record.claim != claimed.claim",
        "record is None",
        f"{ATTACKS}test_the_late_answer_of_a_worker_that_was_overtaken_undoes_nothing",
    ),
    Mutation(
        "a write is sent without asking whether the lease still holds",
        "workers/engine/lease.py",
        "if self.left < NEEDED_FOR_A_CALL:\n            raise",
        "if False:\n            raise",
        f"{ENGINE}test_a_lease_that_ran_out_forbids_the_write",
    ),
    Mutation(
        "two processes write to one business",
        "workers/engine/lease.py",
        " AND (writer_until IS NULL OR writer_until < clock_timestamp())",
        "",
        f"{ENGINE}test_only_one_writer_for_a_business",
    ),
    Mutation(
        "an unanswered create is sent again under a new key",
        "workers/engine/push.py",
        "if intent_id is None or body is None:",
        "if True:",
        f"{ENGINE}test_a_create_without_an_answer_makes_one_customer",
    ),
    Mutation(
        "a create is repeated though Sage no longer remembers its key",
        "workers/engine/push.py",
        "claimed.intent_at < datetime.now(UTC) - KEY_REMEMBERED",
        "False",
        f"{ENGINE}test_an_old_unanswered_create_is_never_repeated_blindly",
    ),
    Mutation(
        "the key of a failed create is given up at any fault",
        "workers/engine/push.py",
        "if claimed.intent_id is None or isinstance(error, Rejected | NotFound):",
        "if True:",
        f"{ATTACKS}test_an_unanswered_create_keeps_its_key_through_other_faults",
    ),
    Mutation(
        "what an unanswered update carried along counts as ours",
        "workers/engine/push.py",
        "for name, value in plan.fields.items() if value != remote.fields[name]}",
        "for name, value in plan.fields.items()}",
        f"{ATTACKS}test_what_an_unanswered_update_carried_along_is_still_a_change_of_sage",
    ),
    Mutation(
        "what gave way is noted with the answer only",
        "workers/engine/push.py",
        "            _note_overruled(work, claimed, overruled)\n        elif record :=",
        "            pass\n        elif record :=",
        f"{ATTACKS}test_what_gave_way_is_kept_though_the_process_dies_after_the_write",
    ),
    Mutation(
        "what an unanswered create made is forgotten where its record is in doubt",
        "workers/engine/strangers.py",
        "_LEFT_TO_PERSONS = (Reason.OUTCOME_UNKNOWN, Reason.GAVE_UP, Reason.POSSIBLE_DUPLICATE)",
        "_LEFT_TO_PERSONS = (Reason.OUTCOME_UNKNOWN, Reason.GAVE_UP)",
        f"{ATTACKS}test_what_an_unanswered_create_made_is_what_its_record_is_linked_to",
    ),
    Mutation(
        "two are made one though Sage may have made one of its own",
        "webapp/sync/views.py",
        "if any(may_have_been_made(work.session, one) for one in two):",
        "if False:",
        "tests/integration/test_duplicates.py::test_they_stay_two_while_sage_may_have_made_one_of_its_own",
    ),
    Mutation(
        "green without comparing",
        "workers/engine/push.py",
        "        elif equal:\n            detail",
        "        elif True:\n            detail",
        f"{ATTACKS}test_a_value_that_sage_dropped_from_an_unanswered_create_is_not_lost",
    ),
    Mutation(
        "green at once without comparing",
        "workers/engine/push.py",
        "is_usual = again_in is None and not overruled and all(state == claimed.fields for state in states)",
        "is_usual = again_in is None and not overruled",
        f"{ENGINE}test_a_value_that_sage_does_not_take_is_not_lost_and_not_green",
    ),
    Mutation(
        "green at once though somebody edited it meanwhile",
        "workers/engine/claim.py",
        '            model.sync_version == bindparam("version", type_=BigInteger),\n',
        '            bindparam("version", type_=BigInteger) > 0,\n',
        f"{ENGINE}test_an_edit_while_sage_is_called_is_not_lost_and_not_green_too_early",
    ),
    Mutation(
        "a record is taken in hand though another worker has it",
        "workers/engine/claim.py",
        ".where(model.id == _RECORD, *is_due(kind), has_its_company(kind))",
        ".where(model.id == _RECORD)",
        f"{ATTACKS}test_a_record_is_taken_in_hand_once",
    ),
    Mutation(
        "green though Sage dropped a value",
        "workers/engine/push.py",
        "elif dropped and wrote:",
        "elif False:",
        f"{ENGINE}test_a_value_that_sage_does_not_take_is_not_lost_and_not_green",
    ),
    Mutation(
        "a value that was edited meanwhile is overwritten by Sage's",
        "workers/engine/push.py",
        "if value == before[name] and value != remote.fields[name] and name not in dropped",
        "if value != remote.fields[name]",
        f"{ENGINE}test_an_edit_while_sage_is_called_is_not_lost_and_not_green_too_early",
    ),
    Mutation(
        "the merge forgets its base",
        "workers/engine/merge.py",
        "base = agreed.get(name) if agreed is not None else None",
        "base = None",
        f"{ENGINE}test_different_fields_merge_without_asking",
    ),
    Mutation(
        "a field that both sides changed is ours",
        "workers/engine/merge.py",
        "conflicts.append(FieldConflict(name, base, our, their))",
        "to_sage.append(name)",
        f"{ENGINE}test_the_same_field_on_both_sides_is_for_a_person",
    ),
    Mutation(
        "an older state of Sage is believed",
        "workers/engine/decide.py",
        "if known_until is not None and remote.updated_at < known_until:",
        "if False:",
        f"{ENGINE}test_an_older_state_of_sage_never_undoes_a_newer_one",
    ),
    Mutation(
        "what was deleted in Sage is made there anew",
        "workers/engine/decide.py",
        "return Plan(Action.ASK_DELETED, local)",
        "return Plan(Action.NOTHING, local)",
        DECISIONS,
    ),
    Mutation(
        "what Sage has from an unanswered update of ours is taken for a change of Sage's",
        "workers/engine/push.py",
        "agreed = {**(claimed.agreed or {}), **ours}",
        "agreed = claimed.agreed",
        f"{ENGINE}test_an_edit_after_an_update_without_an_answer_is_no_conflict_with_ourselves",
    ),
    Mutation(
        "a record of ours that two strangers resemble is linked to both",
        "workers/engine/strangers.py",
        "others.pop(sure.id, None)",
        "others.get(sure.id)",
        f"{ATTACKS}test_two_strangers_that_resemble_one_record_are_not_both_it",
    ),
    Mutation(
        "the watermark moves though the reading broke off",
        "workers/engine/pull.py",
        "for page in _together(there.changed(None if whole else reading.told, unchanged), WHOLE_PAGE if whole else PAGE):",
        "with services.database.unit_of_work() as early:\n"
        "        _note_moment(early, connection_id, kind.cursor, began)\n        early.commit()\n"
        "    for page in _together(there.changed(None if whole else reading.told, unchanged), WHOLE_PAGE if whole else PAGE):",
        f"{ENGINE}test_a_pull_that_breaks_off_does_not_move_the_watermark",
    ),
    Mutation(
        "reading begins at the watermark, without an overlap",
        "workers/engine/pull.py",
        "there.changed(None if whole else reading.told, unchanged)",
        "there.changed(None if whole else watermark, unchanged)",
        f"{ATTACKS}test_a_change_from_right_before_the_watermark_arrives",
    ),
    Mutation(
        "an older state of Sage is passed over where all is read",
        "workers/engine/pull.py",
        "(is_older or was_told)\n        and record.agreed",
        "False\n        and record.agreed",
        f"{ENGINE}test_a_backup_that_was_put_back_in_sage_is_noticed_when_all_customers_are_read",
    ),
    Mutation(
        "what was changed past us is passed over where all is read",
        "workers/engine/pull.py",
        "    if fields_of(record) != record.agreed:\n        return record.last",
        "    if False:\n        return record.last",
        f"{ENGINE}test_a_record_that_was_changed_past_us_is_noticed_when_all_customers_are_read",
    ),
    Mutation(
        "what was compared right before all was read is taken for drifted",
        "workers/engine/pull.py",
        "        and record.last_synchronised_at < reading.began - OVERLAP\n",
        "",
        f"{ENGINE}test_a_page_that_lags_behind_our_write_is_no_drift",
    ),
    Mutation(
        "what was compared while all was read is taken for drifted",
        "workers/engine/pull.py",
        "reading.began - OVERLAP",
        "reading.began + OVERLAP",
        f"{ENGINE}test_what_was_compared_while_all_customers_were_read_has_not_drifted",
    ),
    Mutation(
        "a list's time is believed though its second may not have been over",
        "workers/engine/pull.py",
        "Settled(before.completed - OVERLAP,",
        "Settled(before.completed + OVERLAP,",
        f"{CHILDREN}test_a_second_change_within_one_second_is_not_hidden_by_the_first",
    ),
    Mutation(
        "a list's time is believed whatever else it shows",
        "workers/engine/unchanged.py",
        "            and listed.agrees(record.agreed)\n",
        "",
        f"{CHILDREN}test_a_change_without_a_new_time_shows_in_what_the_lines_come_to",
    ),
    Mutation(
        "an order is never read as long as its list shows nothing new",
        "workers/engine/unchanged.py",
        "            and not self._is_its_turn(listed.id)\n",
        "",
        "tests/unit/test_unchanged.py",
    ),
    Mutation(
        "a time of Sage in the future moves the watermark",
        "workers/engine/pull.py",
        "_note_moment(work, connection_id, kind.cursor, min(newest, began))",
        "_note_moment(work, connection_id, kind.cursor, newest)",
        f"{ATTACKS}test_a_time_in_the_future_does_not_hide_what_changes_later",
    ),
    Mutation(
        "a new customer of Sage is never matched with a company of ours",
        "workers/engine/match.py",
        "        if ids:\n            return Match(ids)",
        "        if False:\n            return Match(ids)",
        f"{ENGINE}test_a_customer_that_both_sides_have_is_linked_not_doubled",
    ),
    Mutation(
        "one of several that match is taken",
        "workers/engine/match.py",
        "return self.ids[0] if len(self.ids) == 1 else None",
        "return self.ids[0] if self.ids else None",
        f"{ENGINE}test_a_doubtful_match_is_for_a_person_and_sends_nothing",
    ),
    Mutation(
        "a fault that passes is shown as an error at once",
        "workers/engine/outcome.py",
        "if attempts >= len(RETRY_SECONDS):",
        "if True:",
        f"{ENGINE}test_a_passing_fault_is_pending_until_its_tries_are_used_up",
    ),
    Mutation(
        "Sage's wish to wait is not heard",
        "workers/engine/outcome.py",
        "max(seconds, asked or 0)",
        "seconds",
        f"{ENGINE}test_sage_asks_for_a_longer_wait",
    ),
    Mutation(
        "browsers are told before the commit",
        "webapp/db.py",
        "        self.session.commit()\n        if self.touched",
        "        self._after_commit(self)\n        self.session.commit()\n        if self.touched",
        f"{ATTACKS}test_nobody_is_told_before_the_commit",
    ),
    Mutation(
        "a contact is sent before its company",
        "workers/engine/due.py",
        "    if kind.company_id is None:\n        return true()",
        "    if True:\n        return true()",
        "tests/integration/test_engine_children.py",
    ),
    Mutation(
        "what was read long ago is written over",
        "workers/engine/push.py",
        "if monotonic() - read_at > FRESH_SECONDS:",
        "if False:",
        f"{ATTACKS}test_what_sage_holds_is_read_anew_by_a_worker_that_was_held_up_before_its_write",
    ),
    Mutation(
        "a create that was begun before a crash is forgotten",
        "workers/engine/claim.py",
        'or_(INTENT.c.state == "open", INTENT.c.state == "unknown"),',
        'INTENT.c.state == "unknown",',
        f"{ENGINE}test_a_crash_right_after_the_create_makes_one_customer",
    ),
    Mutation(
        "a push that was lost on the way is never begun again",
        "workers/jobs.py",
        "if is_idle and is_anything_due(work.session, connection.id, _OVERDUE):",
        "if False:",
        "tests/integration/test_jobs.py::test_a_push_that_was_never_enqueued_is_found",
    ),
    Mutation(
        "a page that asks is told nothing",
        "webapp/live/gateway.py",
        "if version != things[key]])",
        "if False])",
        "tests/integration/test_live.py::test_a_watch_is_answered_with_what_differs",
    ),
    Mutation(
        "a page shows what a record was under the version of what it is",
        "webapp/db.py",
        'isolation_level="REPEATABLE READ"',
        'isolation_level="READ COMMITTED"',
        "tests/integration/test_one_moment.py::test_a_page_is_of_the_moment_before_a_change_or_after_it",
    ),
    Mutation(
        "two processes renew one token at once",
        "workers/sage/tokens.py",
        '    connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": name})\n',
        "",
        "tests/integration/test_tokens.py::TestTogether::test_two_processes_renew_at_the_same_instant_once",
    ),
    Mutation(
        "a disconnection that comes late takes the tokens of a new consent",
        "workers/sage/tokens.py",
        "where(_ROW.c.id == connection_id, ENDED)",
        "where(_ROW.c.id == connection_id)",
        "tests/integration/test_connecting.py::test_a_disconnection_that_comes_late_leaves_what_was_authorised_meanwhile",
    ),
    Mutation(
        "a disconnection that was lost on the way is never begun again",
        "workers/jobs.py",
        "            services().jobs.disconnect(connection_id)\n",
        "            pass\n",
        "tests/integration/test_jobs.py::test_a_disconnection_that_was_never_enqueued_is_found",
    ),
    Mutation(
        "a page says that it is connected while no worker lives",
        "webapp/pulse.py",
        "return self._last_sign is None or datetime.now(UTC) - self._last_sign >= WORKER_SILENCE",
        "return self._last_sign is None",
        "tests/integration/test_health.py::test_people_see_it_too_when_the_workers_fell_silent",
    ),
    Mutation(
        "a Retry-After that is a date is not heard",
        "workers/sage/http.py",
        "    until = _http_date(text)\n",
        "    until = None\n",
        "tests/integration/test_connector_faults.py::test_the_wait_of_a_429_is_known_in_all_three_forms",
    ),
    Mutation(
        "the echo of our own write is taken for a change",
        "workers/engine/pull.py",
        "    return record.agreed != remote.fields\n",
        "    return True\n",
        f"{ENGINE}test_the_echo_of_our_own_write_changes_nothing",
    ),
    Mutation(
        "a page that was read before our write undoes it",
        "workers/engine/pull.py",
        " and not has_drifted and not was_written:\n",
        " and not has_drifted:\n",
        f"{ENGINE}test_a_page_from_before_our_write_does_not_undo_it",
    ),
    Mutation(
        "deletions in Sage are not read",
        "workers/engine/pull.py",
        "            if tombstones:\n",
        "            if False:\n",
        f"{ENGINE}test_a_deletion_in_sage_is_for_a_person",
    ),
    Mutation(
        "one record that cannot be understood stops the others",
        "workers/sage/accounting/records.py",
        '                log.warning("sage_record_not_understood", list=self.name, id=error.id, error=str(error))\n',
        "                raise Transient(str(error)) from error\n",
        "tests/integration/test_connector_faults.py::test_one_customer_that_cannot_be_understood_does_not_stop_the_others",
    ),
    Mutation(
        "a record stays green though what Sage holds of it is not understood any more",
        "workers/engine/pull.py",
        "        elif there.not_understood:\n",
        "        elif False:\n",
        "tests/integration/test_engine_accounting.py::test_a_company_its_contact_and_its_order_travel_there_and_back",
    ),
    Mutation(
        "a price of Sage's is rounded to the cent",
        "workers/sage/accounting/documents.py",
        "    return LineValues(description, quantity, without_noise(price),",
        "    return LineValues(description, quantity, rounded(price),",
        "tests/unit/test_accounting_documents.py::TestReading::test_prices_keep_what_is_beyond_the_cent",
    ),
    Mutation(
        "one record that breaks our code stops the others",
        "workers/engine/push.py",
        '        _failed(services, claimed, Transient("internal error"))\n',
        "        raise\n",
        f"{ENGINE}test_one_poisonous_record_does_not_stop_the_others",
    ),
    Mutation(
        "an answer that is cut off is taken for whole",
        "workers/sage/wire.py",
        "                if answer.ends_with_connection:\n",
        "                if answer.status:\n",
        "tests/integration/test_connector_faults.py::test_half_an_answer_is_none",
    ),
    Mutation(
        "an answer that nobody asked for is taken for the next one",
        "workers/sage/wire.py",
        "        self.may_follow = False\n\n    def on_header",
        "        pass\n\n    def on_header",
        "tests/integration/test_connector_faults.py::test_an_answer_that_nobody_asked_for_is_not_the_next_one",
    ),
    Mutation(
        "a call lasts as long as Sage sends a byte now and then",
        "workers/sage/wire.py",
        "        left = min(self._ends - time.monotonic(), most)\n",
        "        left = most\n",
        "tests/integration/test_connector_faults.py::test_a_call_ends_with_its_deadline",
    ),
    Mutation(
        "what Redis missed while it was away is not read",
        "webapp/live/gateway.py",
        "                    if self._missed or not had:\n                        self._catch_up()\n",
        "                    self._missed = False\n",
        "tests/integration/test_live.py::test_what_redis_missed_while_it_was_away_comes_when_it_is_back",
    ),
    Mutation(
        "a pull that the database broke off is taken for whole",
        "workers/engine/pull.py",
        "connection=connection_id, error=error, exc_info=True)",
        "connection=connection_id, exc_info=True)\n        error = ''",
        f"{ATTACKS}test_a_pull_that_the_database_breaks_off_says_so_and_is_done_again",
    ),
    Mutation(
        "after a wrong business, calls go on",
        "workers/sage/http.py",
        "            self._other_business = named\n",
        "",
        "tests/integration/test_connector_faults.py::test_after_an_answer_for_another_business_nothing_more_is_sent",
    ),
    Mutation(
        "the sockets of a disabled person stay open",
        "webapp/live/gateway.py",
        '            self._close(self._readers.sids_of(published["close_user"]))\n',
        "            pass\n",
        "tests/integration/test_live.py::test_disabling_a_person_closes_their_sockets_at_once_and_no_others",
    ),
    Mutation(
        "a right is not read at each question",
        "webapp/live/gateway.py",
        "            if user_of_socket() is None:\n                self._close",
        "            if False:\n                self._close",
        "tests/integration/test_live.py::test_rights_are_read_at_each_watch",
    ),
    Mutation(
        "a page that asks is told what it has already",
        "webapp/live/gateway.py",
        "if version != things[key]])",
        "if version == things[key]])",
        "tests/integration/test_live.py::test_a_watch_is_answered_with_what_differs",
    ),
    Mutation(
        "a web process that was started anew hears of no change",
        "webapp/live/gateway.py",
        "            gevent.spawn(self._for_ever, self._listen)\n",
        "",
        "tests/integration/test_live.py::test_a_client_of_a_killed_web_process_is_right_again_by_itself",
    ),
    Mutation(
        "an update without an answer is taken for refused",
        "workers/engine/push.py",
        '_finish_intent(services, claimed, intent_id, "unknown")\n        raise',
        '_finish_intent(services, claimed, intent_id, "refused")\n        raise',
        f"{ENGINE}test_an_edit_after_an_update_without_an_answer_is_no_conflict_with_ourselves",
    ),
    Mutation(
        "a create without an answer is taken for refused",
        "workers/engine/push.py",
        "except OutcomeUnknown:\n            raise\n",
        'except OutcomeUnknown:\n            _finish_intent(services, claimed, intent_id, "refused")\n            raise\n',
        f"{ENGINE}test_a_create_without_an_answer_makes_one_customer",
    ),
    Mutation(
        "a write that met a Sage that is broken is shown as refused",
        "workers/sage/http.py",
        "Meaning(100, 999, Transient, OutcomeUnknown, OutcomeUnknown),",
        "Meaning(100, 999, Transient, Refused, Refused),",
        "tests/integration/test_faults_while_editing.py::test_each_fault_in_turn_while_people_edit",
    ),
    Mutation(
        "a void invoice is taken for an order",
        "workers/sage/accounting/documents.py",
        'return self.is_booked and part_of(item, "status").get("id") == _VOID',
        "return False",
        "tests/integration/test_connecting.py::test_orders_become_what_the_admin_chose_with_the_company",
    ),
    Mutation(
        "an invoice without a reference is given one",
        "workers/sage/accounting/documents.py",
        '(number if document.is_booked else "")',
        '""',
        "tests/integration/test_connecting.py::test_orders_become_what_the_admin_chose_with_the_company",
    ),
    Mutation(
        "what was confirmed before anybody chose invoices is booked",
        "webapp/sync/sending.py",
        "confirmed = orders & (Order.phase == CONFIRMED)",
        'confirmed = orders & (Order.phase == "")',
        "tests/integration/test_connections.py::test_nothing_is_booked_that_was_not_confirmed_knowing_it",
    ),
    Mutation(
        "a line names a product that Sage no longer has",
        "workers/engine/claim.py",
        "        *(Product.sync_reason != gone for gone in GONE),\n",
        "",
        f"{PRODUCTS}test_a_product_that_went_in_sage_holds_up_no_order",
    ),
    Mutation(
        "a line names a product of another company in Sage",
        "workers/engine/claim.py",
        "        Product.connection_id == Order.connection_id,\n",
        "",
        f"{PRODUCTS}test_lines_name_the_products_that_sage_has_and_an_order_waits_for_none",
    ),
    Mutation(
        "an order is left to a person because a product of its lines is gone",
        "workers/engine/push.py",
        'if error.detail.get("code") != PRODUCT_GONE:',
        "if True:",
        f"{PRODUCTS}test_a_product_that_went_in_sage_holds_up_no_order",
    ),
    Mutation(
        "a create that was sent again is believed without a look at what became of it",
        "workers/engine/push.py",
        "if claimed.intent_id is not None:\n                again_in",
        "if False:\n                again_in",
        f"{ATTACKS}test_what_sage_answered_first_is_no_longer_taken_for_what_it_holds",
    ),
    Mutation(
        "what was confirmed before the choice is booked where an edit or a resync comes first",
        "webapp/connection/changes.py",
        "of_it |= Order.connection_id.is_(None)",
        "pass",
        f"{CONNECTIONS}test_whatever_became_of_an_early_order_it_is_confirmed_anew_before_it_is_booked",
    ),
    Mutation(
        "what is confirmed while an admin chooses invoices is booked",
        "webapp/orders/views.py",
        "        hold_what_orders_become(work.session)\n",
        "",
        f"{CONNECTIONS}test_what_is_confirmed_while_an_admin_chooses_is_confirmed_anew",
    ),
    Mutation(
        "an import books the orders that it brings",
        "webapp/orders/importing.py",
        "sent = VALIDATED if sage is not None and sage.books_orders else CONFIRMED",
        "sent = CONFIRMED",
        f"{CONNECTIONS}test_nothing_is_booked_that_was_not_confirmed_knowing_it",
    ),
    Mutation(
        "what an import changes of a confirmed order is booked",
        "webapp/orders/importing.py",
        "and_(was_confirmed, is_booked, said_anew), VALIDATED",
        "and_(was_confirmed, is_booked, said_anew), CONFIRMED",
        f"{CONNECTIONS}test_what_an_import_changes_of_a_confirmed_order_is_confirmed_anew_before_it_is_booked",
    ),
    Mutation(
        "what Sage no longer changes of an order, as of a paid invoice, is called an error to be mended here",
        "workers/engine/push.py",
        "if claimed.kind.is_mended_here or (error",
        "if True or (error",
        f"{CHILDREN}test_what_sage_refuses_to_change_of_an_order_is_for_a_person_to_choose",
    ),
    Mutation(
        "an order is sent that somebody changed after it was looked at",
        "webapp/orders/views.py",
        "elif order.phase == VALIDATED and not is_as_shown(order):",
        "elif False:",
        "tests/integration/test_orders_pages.py::test_what_was_changed_since_the_page_was_drawn_is_looked_at_before_it_is_sent",
    ),
    Mutation(
        "a value of Sage's is taken that nobody was shown",
        "webapp/sync/views.py",
        "elif not is_as_shown(record):",
        "elif False:",
        "tests/integration/test_companies_reviews.py::test_what_changed_since_the_page_was_drawn_is_looked_at_before_the_choice",
    ),
    Mutation(
        "the note of a create is ended by a worker that does not record what it made",
        "workers/engine/claim.py",
        ", exists(select(recorded.c.id))",
        "",
        f"{ATTACKS}test_a_crash_after_the_create_of_what_was_edited_meanwhile_makes_no_second_customer",
    ),
    Mutation(
        "an old create whose outcome nobody knows is sent anew with the next edit",
        "workers/engine/claim.py",
        'or_(INTENT.c.state == "open", INTENT.c.state == "unknown"),',
        'INTENT.c.state == "open",',
        f"{ATTACKS}test_an_admin_who_looked_it_up_can_have_it_sent_anew",
    ),
    Mutation(
        "what Sage holds from an unanswered update is ours for ever, though later ones were answered",
        "workers/engine/push.py",
        'intent.state != "done" and intent.operation == "update"',
        'intent.operation == "update"',
        f"{ATTACKS}test_what_somebody_in_sage_puts_back_to_an_old_unanswered_update_of_ours_is_a_change_of_sage",
    ),
    Mutation(
        "an edit is forgotten where Sage refuses what was sent before it",
        "workers/engine/push.py",
        "            if record.sync_reason == Reason.RUNNING:\n                record.attempts",
        "            if True:\n                record.attempts",
        f"{ATTACKS}test_what_is_edited_while_sage_refuses_it_is_sent",
    ),
    Mutation(
        "a worker that was overtaken ends the lease of the one that has it now",
        "workers/engine/lease.py",
        'WHERE id = :connection AND writer = :writer\n    """\n)\n\n\nclass',
        'WHERE id = :connection\n    """\n)\n\n\nclass',
        f"{ENGINE}test_a_lost_lease_cannot_be_renewed",
    ),
    Mutation(
        "of two states of one second the one that was read last is believed",
        "workers/engine/pull.py",
        "plan.action is Action.TAKE and remote.updated_at != record.sage_updated_at",
        "plan.action is Action.TAKE",
        f"{ATTACKS}test_a_page_with_the_state_before_our_write_and_the_time_of_it_undoes_nothing",
    ),
    Mutation(
        "deletions are read from the watermark on, without an overlap",
        "workers/engine/pull.py",
        "there.deleted(watermark - OVERLAP)",
        "there.deleted(watermark)",
        f"{ATTACKS}test_a_change_from_right_before_the_watermark_arrives",
    ),
    Mutation(
        "a job that makes way leaves what is still due to the sweep",
        "workers/engine/push.py",
        "            services.jobs.push(connection_id)\n            return",
        "            return",
        f"{ENGINE}test_a_job_makes_way_after_a_while",
    ),
    Mutation(
        "what was edited while a job ended is sent by nobody",
        "workers/engine/push.py",
        "        # What became due between the last look and the release was told to nobody else.",
        "        return",
        f"{ATTACKS}test_what_is_edited_between_the_last_look_and_the_end_of_a_job_is_sent_by_it",
    ),
    Mutation(
        "browsers are not told of what was in step when a job ended with a fault",
        "webapp/db.py",
        "                self._kept.cursor = None\n                self._tell()",
        "                self._kept.cursor = None",
        f"{ATTACKS}test_what_is_in_step_is_told_though_the_job_ends_with_a_fault",
    ),
    Mutation(
        "a page that asks is told of no change that is committed while its answer is read",
        "webapp/live/gateway.py",
        "            self._readers.watch(sid, things)\n            self._enter(things)\n",
        "",
        "tests/unit/test_live_gateway.py::test_a_change_that_is_too_late_for_the_answer_comes_in_a_frame",
    ),
    Mutation(
        "reading takes the calls that are kept for what people wait for",
        "workers/sage/budget.py",
        "if self._reads_only and not self.has_room():",
        "if False:",
        "tests/integration/test_budget.py::test_reading_leaves_room_for_the_writers",
    ),
    Mutation(
        "more calls run at once than Sage allows",
        "workers/sage/budget.py",
        ">= tonumber(ARGV[row])",
        "> tonumber(ARGV[row])",
        "tests/integration/test_budget.py::test_no_more_calls_run_at_once_than_are_allowed",
    ),
    Mutation(
        "a resync of many is told to nobody",
        "webapp/sync/transitions.py",
        "        work.touched[thing.key] = thing\n        if",
        "        if",
        f"{ENGINE}test_resync_of_a_module_takes_every_customer_and_no_prospect",
    ),
    Mutation(
        "who saves what was given up has no more tries",
        "webapp/sync/transitions.py",
        "    record.attempts = 0\n",
        "",
        f"{ENGINE}test_a_passing_fault_is_pending_until_its_tries_are_used_up",
    ),
    Mutation(
        "what a person took out of synchronisation comes back with a customer that looks like it",
        "workers/engine/strangers.py",
        "        if sure is not None and sure.sync_reason != Reason.UNLINKED:\n",
        "        if sure is not None:\n",
        f"{ENGINE}test_unlinked_stays_out_until_a_person_asks",
    ),
    Mutation(
        "who resyncs what was unlinked makes a second one of what Sage has by now",
        "webapp/sync/resync.py",
        "        if others:\n",
        "        if False:\n",
        "tests/integration/test_duplicates.py::test_who_resyncs_an_unlinked_one_is_told_first_what_sage_has_by_now",
    ),
    Mutation(
        "what is asked for while a job is at work waits for the sweep, or for a minute",
        "workers/jobs.py",
        "    services().jobs.push_begins(connection_id)\n    drain(services(), connection_id, connect, hands=_HANDS)\n",
        "    drain(services(), connection_id, connect, hands=_HANDS)\n    services().jobs.push_begins(connection_id)\n",
        "tests/integration/test_jobs.py::test_what_is_asked_for_while_a_job_is_at_work_gets_a_job_of_its_own",
    ),
    Mutation(
        "a write is sent though its record was edited or linked since it was taken in hand",
        "workers/engine/push.py",
        'model.claim == bindparam("claim"), model.sync_reason == Reason.RUNNING',
        'model.claim == bindparam("claim")',
        f"{ATTACKS}test_a_pull_that_links_a_record_while_it_is_about_to_be_created_makes_no_second_customer",
    ),
)


def is_noticed(mutation: Mutation) -> bool:
    """Whether its test fails on a copy of the project that is broken so. Raises ValueError where the code is gone."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "project"
        # What is compiled goes along: it holds for all files but the broken one.
        left_out = shutil.ignore_patterns(".git", ".venv", "node_modules", "var", ".*_cache")
        shutil.copytree(ROOT, copy, ignore=left_out)
        broken = copy / mutation.file
        before = broken.read_text(encoding="utf-8")
        if before.count(mutation.code) != 1:
            raise ValueError(f"{mutation.file} has this {before.count(mutation.code)} times: {mutation.code}")
        broken.write_text(before.replace(mutation.code, mutation.instead), encoding="utf-8")
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-n0", f"--basetemp={folder}/pytest", mutation.test],
            cwd=copy,
            capture_output=True,
            text=True,
            check=False,
        )
        # 1 is a failed test, or one whose fixtures could not be set up, as without a database: that one did not notice
        # anything. Whatever else is a run that did not take place.
        if run.returncode not in (0, 1) or (run.returncode == 1 and "\nFAILED " not in run.stdout):
            raise ValueError(f"{mutation.test} could not be run:\n{run.stdout[-2000:]}")
        return run.returncode == 1


def table() -> str:
    """docs/mutations.md."""
    lines = [
        "# What happens when the engine is broken",
        "",
        "Each line is a small change that makes the engine lie or lose, and the test that fails by it. `make mutate` tries",
        "all of them, one at a time, on a copy of the project. This page is written by `python -m tests.mutations table`.",
        "",
        "| broken so that | in | noticed by |",
        "|---|---|---|",
    ]
    lines += [f"| {one.broken} | `{one.file}` | `{one.test}` |" for one in MUTATIONS]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Try all of them. Returns the exit status: 1 where one was not noticed, or could not be tried."""
    noticed = 0
    with ThreadPoolExecutor(2) as pool:
        tried = [pool.submit(is_noticed, mutation) for mutation in MUTATIONS]
        for mutation, one in zip(MUTATIONS, tried, strict=True):
            try:
                found = "noticed" if one.result() else "NOT NOTICED"
            except ValueError as error:
                found = f"NOT TRIED ({error})"
            noticed += found == "noticed"
            print(f"{found}: {mutation.broken}", flush=True)
    print(f"{noticed} of {len(MUTATIONS)} noticed")
    return 0 if noticed == len(MUTATIONS) else 1


if __name__ == "__main__":
    if sys.argv[1:] == ["table"]:
        print(table(), end="")
    else:
        sys.exit(main())
