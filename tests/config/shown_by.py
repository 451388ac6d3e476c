"""Map each key of docker distribution that has an effect to the test that shows the effect.

A pattern that ends with `.**` covers all keys below it. A test is named by its file and function.
"""

from __future__ import annotations

from typing import Final

_HTTP: Final = "appliance/test_haproxy_http.py"
_TLS: Final = "appliance/supervise/test_client_authorities.py"
_TOKEN: Final = "registry/auth/test_token_verifier.py"
_LOGS: Final = "runtime/test_logs.py"
_PURGE: Final = "cleaner/maintenance/test_purge_uploads.py"
_PUSH_RULES: Final = "registry/push/test_push_rules.py"
_REPORTING: Final = "runtime/test_reporting.py"

SHOWN_BY: Final[dict[str, str]] = {
    "version": "config/test_documentation.py::test_the_example_changes_nothing",
    "log.level": f"{_LOGS}::test_levels_have_the_names_of_docker_distribution",
    "log.formatter": f"{_LOGS}::test_a_line_for_logstash_has_the_fields_of_docker_distribution",
    "log.accesslog.disabled": "appliance/supervise/test_access_printer.py"
    "::test_all_lines_are_printed_in_order",
    "log.reportcaller": f"{_LOGS}::test_a_line_has_the_place_in_the_code_only_on_request",
    "log.fields.**": f"{_LOGS}::test_the_fields_of_the_operator_follow_those_of_a_text_line",
    "log.hooks.**": "appliance/supervise/test_log_mail.py"
    "::test_only_lines_of_the_levels_of_a_hook_are_mailed",
    "loglevel": f"{_LOGS}::test_levels_have_the_names_of_docker_distribution",
    "middleware.registry.**": "registry/test_middleware.py"
    "::test_middleware_of_the_registry_wraps_every_response",
    "middleware.repository.**": "registry/test_middleware.py"
    "::test_middleware_of_repositories_may_refuse_a_request",
    "middleware.storage.**": "registry/test_storage_redirects.py"
    "::test_middleware_decides_where_clients_fetch_a_blob",
    "reporting.bugsnag.**": f"{_REPORTING}::test_an_error_of_a_worker_is_reported",
    "reporting.newrelic.**": f"{_REPORTING}::test_an_error_of_a_worker_is_reported",
    "storage.filesystem.rootdirectory": "system/test_exchange.py"
    "::test_what_docker_registry_wrote_is_served",
    "storage.inmemory.rootdirectory": "system/test_in_memory.py"
    "::test_the_folder_has_the_content_until_the_appliance_ends",
    "storage.azure.**": "datastore/test_azure_container.py::test_each_key_selects_host_and_login",
    "storage.oss.**": "datastore/test_oss_bucket.py::test_each_key_becomes_a_key_of_s3",
    "storage.s3.**": "datastore/test_s3_bucket.py::test_each_key_has_its_effect",
    "storage.delete.enabled": "registry/push/test_deletes.py::test_deletes_are_405_unless_enabled",
    "storage.redirect.disable": "registry/test_redirects.py"
    "::test_a_large_blob_is_fetched_from_the_bucket",
    "storage.maintenance.readonly.enabled": "registry/push/test_read_only.py"
    "::test_every_change_is_405_and_changes_nothing",
    "storage.maintenance.uploadpurging.enabled": f"{_PURGE}"
    "::test_the_purge_is_a_job_with_its_own_interval",
    "storage.maintenance.uploadpurging.age": f"{_PURGE}"
    "::test_an_upload_is_purged_at_the_configured_age",
    "storage.maintenance.uploadpurging.interval": f"{_PURGE}"
    "::test_the_purge_is_a_job_with_its_own_interval",
    "storage.maintenance.uploadpurging.dryrun": f"{_PURGE}::test_a_dry_run_only_logs_each_upload",
    "auth.htpasswd.realm": "registry/auth/test_identity.py::test_a_realm_cannot_break_its_header",
    "auth.htpasswd.path": "system/test_login.py::test_skopeo_needs_the_right_password",
    "auth.none.**": "config/test_merge.py::test_auth_none_is_open",
    "auth.silly.**": "appliance/test_haproxy_tokens.py"
    "::test_any_credential_of_silly_is_the_same_user",
    "auth.token.realm": "system/test_tokens.py::test_the_challenges_are_those_of_docker_registry",
    "auth.token.service": f"{_TOKEN}::test_a_claim_that_does_not_fit_refuses_the_token",
    "auth.token.issuer": f"{_TOKEN}::test_a_claim_that_does_not_fit_refuses_the_token",
    "auth.token.rootcertbundle": f"{_TOKEN}::test_a_chain_is_verified_against_the_bundle",
    "auth.token.jwks": f"{_TOKEN}::test_a_key_of_a_key_set_is_found_by_its_name",
    "auth.token.signingalgorithms.**": f"{_TOKEN}"
    "::test_a_token_is_refused_if_its_algorithm_is_not_allowed",
    "auth.token.autoredirect": "registry/api/test_scopes.py"
    "::test_autoredirect_leads_to_the_host_that_the_client_used",
    "auth.token.autoredirectpath": "registry/api/test_scopes.py"
    "::test_autoredirect_leads_to_the_host_that_the_client_used",
    "http.addr": "system/test_serve.py"
    "::test_an_image_is_fetched_once_and_served_from_disk_afterwards",
    "http.net": f"{_HTTP}::test_a_unix_socket_takes_requests",
    "http.prefix": f"{_HTTP}::test_only_paths_below_the_prefix_reach_the_api",
    "http.host": f"{_HTTP}::test_location_begins_with_the_configured_host",
    "http.secret": "system/test_push_uploads.py::test_an_upload_continues_in_either_worker",
    "http.relativeurls": f"{_HTTP}::test_location_begins_as_the_request_or_its_proxy_says",
    "http.draintimeout": "system/test_supervision.py"
    "::test_a_request_in_flight_has_the_configured_grace",
    "http.tls.certificate": "system/test_tls.py::test_skopeo_pulls_over_tls",
    "http.tls.key": "system/test_tls.py::test_skopeo_pulls_over_tls",
    "http.tls.clientcas.**": f"{_TLS}"
    "::test_each_mode_admits_the_clients_that_it_admits_in_docker_distribution",
    "http.tls.clientauth": f"{_TLS}"
    "::test_each_mode_admits_the_clients_that_it_admits_in_docker_distribution",
    "http.tls.minimumtls": f"{_TLS}"
    "::test_versions_and_cipher_suites_are_those_that_the_operator_names",
    "http.tls.ciphersuites.**": f"{_TLS}"
    "::test_versions_and_cipher_suites_are_those_that_the_operator_names",
    "http.debug.addr": f"{_HTTP}::test_the_debug_listener_serves_its_pages_and_nothing_else",
    "http.debug.prometheus.**": "registry/api/test_debug.py"
    "::test_metrics_are_served_only_if_they_are_enabled",
    "http.headers.**": f"{_HTTP}::test_every_response_has_the_configured_headers",
    "http.http2.disabled": f"{_TLS}::test_http2_is_not_offered_if_it_is_disabled",
    "http.h2c.enabled": f"{_HTTP}::test_http2_without_tls_is_accepted_with_prior_knowledge",
    "notifications.events.includereferences": "notifications/test_pulls.py"
    "::test_references_are_listed_only_if_they_are_configured",
    "notifications.endpoints.**": "notifications/test_delivery.py"
    "::test_all_events_are_delivered_in_order",
    "health.**": "system/test_health.py::test_a_failing_check_closes_the_appliance_until_it_passes",
    "catalog.maxentries": "registry/push/test_lists.py"
    "::test_a_larger_n_than_the_limit_of_the_catalog_is_400",
    "tags.maxtags": "registry/push/test_lists.py"
    "::test_a_larger_n_than_the_limit_of_tags_gets_a_page_of_that_limit",
    "validation.manifests.indexes.**": f"{_PUSH_RULES}"
    "::test_the_images_of_an_index_must_be_stored_by_platform",
    "validation.**": f"{_PUSH_RULES}"
    "::test_the_urls_of_layers_are_restricted_as_in_docker_distribution",
    "policy.repository.classes.**": f"{_PUSH_RULES}"
    "::test_only_the_configured_classes_may_be_pushed",
    "proxy.ttl": "cleaner/test_policy.py::test_an_eviction_for_age_gives_idle_time_and_ttl",
    "proxy.exec.**": "registry/upstream/test_credential_helper.py"
    "::test_a_login_is_used_for_its_lifetime",
    "proxy.remoteurl": "registry/upstream/test_urls.py"
    "::test_a_path_in_the_url_begins_each_name_or_precedes_the_api",
    "proxy.username": "registry/upstream/test_tokens.py"
    "::test_basic_credentials_are_sent_from_the_start_after_the_first_challenge",
    "proxy.password": "registry/upstream/test_tokens.py"
    "::test_a_wrong_password_is_denied_and_not_repeated",
}
