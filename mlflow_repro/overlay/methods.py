"""What each method of MLflow's stores does: it reads, it writes to something by its id, it makes something new.

Whatever is not in these lists is held back, so that a method that a later MLflow brings cannot write unnoticed. A test
asserts that each public method of the installed MLflow's stores is in one of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TRACKING_READS = """
    batch_get_trace_infos batch_get_traces calculate_trace_filter_correlation filter_active_experiment_ids
    find_completed_sessions get_active_online_scorers get_all_experiment_tags get_all_metrics get_all_params
    get_all_tags get_assessment get_budget_policy get_dataset get_dataset_experiment_ids get_experiment
    get_experiment_by_name get_gateway_endpoint get_gateway_guardrail get_gateway_model_definition get_issue
    get_label_schema get_label_schema_by_name get_latest_mcp_server_version get_logged_model get_max_step_for_metric
    get_mcp_access_endpoint get_mcp_server get_mcp_server_version get_mcp_server_version_by_alias
    get_mcp_server_versions_for_trace get_metric_history get_metric_history_bulk get_metric_history_bulk_interval
    get_metric_history_bulk_interval_from_steps get_online_scoring_configs get_online_trace_details get_review_queue
    get_review_queue_by_name get_run get_scorer get_secret_info get_trace get_trace_info get_trace_location
    list_budget_policies list_endpoint_bindings list_endpoint_guardrail_configs list_gateway_endpoints
    list_gateway_guardrails list_gateway_model_definitions list_label_schemas list_review_queue_items
    list_review_queues list_scorer_versions list_scorers list_scorers_across_experiments list_secret_infos
    query_trace_metrics resolve_endpoint_in_scorer resolve_trace_archival_config search_datasets
    search_entities_by_destination search_entities_by_source search_experiments search_issues search_logged_models
    search_mcp_access_endpoints search_mcp_server_versions search_mcp_servers search_runs search_traces
    sum_gateway_trace_cost"""
_REGISTRY_READS = """
    get_all_registered_model_aliases_from_path get_all_registered_model_tags_from_path get_latest_versions
    get_model_version get_model_version_by_alias get_model_version_download_uri get_prompt get_prompt_version
    get_prompt_version_by_alias get_registered_model get_webhook list_registered_models list_webhooks
    list_webhooks_by_event search_model_versions search_prompt_versions search_prompts search_registered_models"""
_OTHER_READS = """
    get_default_workspace get_job get_workspace list_jobs list_workspaces resolve_artifact_root"""

READS = _names(f"{_TRACKING_READS} {_REGISTRY_READS} {_OTHER_READS}")
"""They change nothing, or only a process's own memory."""
NEUTRAL = frozenset(("end_async_logging", "flush_async_logging", "sanitize_metric_value", "shut_down_async_logging"))
"""They neither read nor write anything but what was written through other methods."""

WRITES: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "delete_run",
            "delete_tag",
            "link_traces_to_run",
            "log_batch",
            "log_batch_async",
            "log_inputs",
            "log_metric",
            "log_metric_async",
            "log_outputs",
            "log_param",
            "log_param_async",
            "record_logged_model",
            "restore_run",
            "set_tag",
            "set_tag_async",
            "unlink_traces_from_run",
            "update_run_info",
        ),
        "run",
    ),
    **dict.fromkeys(
        (
            "delete_experiment",
            "delete_experiment_tag",
            "rename_experiment",
            "restore_experiment",
            "set_experiment_tag",
        ),
        "experiment",
    ),
    **dict.fromkeys(
        (
            "delete_logged_model",
            "delete_logged_model_tag",
            "finalize_logged_model",
            "log_logged_model_params",
            "set_logged_model_tags",
            "set_model_versions_tags",
        ),
        "model",
    ),
    **dict.fromkeys(
        (
            "create_assessment",
            "delete_assessment",
            "delete_trace_tag",
            "delete_traces",
            "deprecated_end_trace_v2",
            "end_trace",
            "link_mcp_server_versions_to_trace",
            "link_prompts_to_trace",
            "log_spans",
            "log_spans_async",
            "set_trace_tag",
            "start_trace",
            "update_assessment",
        ),
        "trace",
    ),
    **dict.fromkeys(
        (
            "add_dataset_to_experiments",
            "delete_dataset",
            "delete_dataset_records",
            "delete_dataset_tag",
            "remove_dataset_from_experiments",
            "set_dataset_tags",
            "upsert_dataset_records",
        ),
        "dataset",
    ),
}
"""They write to what exists, and of what kind that is: they pass when it is of this relaunch."""

ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "run": ("run_id", "run_uuid"),
    "experiment": ("experiment_id",),
    "model": ("model_id",),
    "trace": ("trace_id", "request_id", "trace_ids", "request_ids", "trace_info", "spans", "assessment"),
    "dataset": ("dataset_id",),
}
"""The arguments that say what is written to."""

MAKES: Mapping[str, tuple[str, ...]] = {
    "create_dataset": ("dataset", "dataset_id"),
    "create_experiment": ("experiment",),
    "create_logged_model": ("model", "model_id"),
    "create_run": ("run", "info", "run_id"),
    "deprecated_start_trace_v2": ("trace", "request_id"),
}
"""They make something new: its kind, and where its id is in what they return."""

REGISTRY_WRITES = _names("""
    copy_model_version create_model_version create_registered_model delete_model_version delete_model_version_tag
    delete_registered_model delete_registered_model_alias delete_registered_model_tag rename_registered_model
    set_model_version_tag set_registered_model_alias set_registered_model_tag transition_model_version_stage
    update_model_version update_registered_model
    """)
"""They write to the model registry. What they would do is kept apart from it, unless the user lets them."""
REGISTRY_VIEWS = _names("""
    get_latest_versions get_model_version get_model_version_by_alias get_model_version_download_uri
    get_registered_model search_model_versions search_registered_models
    """)
"""The reads of the model registry in which the script sees what it has written."""
REGISTRY_COMPOSITES = _names("""
    create_prompt create_prompt_version delete_prompt delete_prompt_alias delete_prompt_tag delete_prompt_version
    delete_prompt_version_tag link_prompt_version_to_model link_prompt_version_to_run set_prompt_alias set_prompt_tag
    set_prompt_version_tag
    """)
"""They write to the model registry by other methods of the store, each of which is looked at, too."""

REFUSED = _names("""
    add_guardrail_to_endpoint add_items_to_review_queue archive_traces attach_model_to_endpoint cancel_job claim_job
    create_budget_policy create_endpoint_binding create_gateway_endpoint create_gateway_guardrail
    create_gateway_model_definition create_gateway_secret create_issue create_job create_label_schema
    create_mcp_access_endpoint create_mcp_server create_mcp_server_version create_or_get_trace_location
    create_review_queue create_webhook create_workspace delete_budget_policy delete_endpoint_binding
    delete_gateway_endpoint delete_gateway_endpoint_tag delete_gateway_guardrail delete_gateway_model_definition
    delete_gateway_secret delete_jobs delete_label_schema delete_mcp_access_endpoint delete_mcp_server
    delete_mcp_server_alias delete_mcp_server_tag delete_mcp_server_version delete_mcp_server_version_tag
    delete_review_queue delete_scorer delete_webhook delete_workspace detach_model_from_endpoint fail_job finish_job
    get_or_create_user_queue link_trace_location mark_job_needs_recovery mark_job_timed_out reattach_job
    register_scorer remove_guardrail_from_endpoint remove_items_from_review_queue renew_job_lease report_job_result
    requeue_job reset_job retry_job retry_or_fail_job set_experiment_trace_location set_gateway_endpoint_tag
    set_mcp_server_alias set_mcp_server_tag set_mcp_server_version_tag set_review_queue_item_status start_job
    test_webhook unset_experiment_trace_location update_budget_policy update_endpoint_guardrail_config
    update_gateway_endpoint update_gateway_model_definition update_gateway_secret update_issue update_job_progress
    update_label_schema update_mcp_access_endpoint update_mcp_server update_mcp_server_version update_review_queue
    update_status_details update_webhook update_workspace upsert_online_scoring_config
    """)
"""They write to what a training does not make: an exception says that they are refused."""

ARTIFACT_READS = _names("""
    download_archived_trace_data download_artifacts download_trace_attachment download_trace_attachment_to_file
    download_trace_data download_trace_data_to_file flush_async_logging full_path get_download_presigned_url
    get_ftp_client get_local_path get_s3_file_upload_extra_args list_artifacts parse_s3_compliant_uri resolve_uri
    """)
"""The methods of artifact repositories that change nothing."""
ARTIFACT_WRITES = _names("""
    abort_multipart_upload complete_multipart_upload create_multipart_upload create_presigned_upload_url
    delete_artifacts log_artifact log_artifact_from_async_stream log_artifact_from_stream log_artifacts
    upload_archived_trace_data upload_archived_trace_data_bytes upload_attachment upload_trace_data
    """)
"""Those that write below the repository's address: they pass when that is of this relaunch."""


def is_classified(name: str) -> bool:
    """True when it is known what the method ``name`` of a tracking store or a model registry does."""
    known = (READS, NEUTRAL, WRITES, MAKES, REGISTRY_WRITES, REGISTRY_COMPOSITES, REFUSED)
    return any(name in names for names in known)
