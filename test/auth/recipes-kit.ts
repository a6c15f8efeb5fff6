// Tokens of each platform's true shape, one for each recipe of docs/federation.md: what the right workload's holds, and
// what those of near misses hold that an attacker would try.
import { type Key, ecKey, nowSeconds, rsaKey } from "./foreign.ts";

export type Claims = Readonly<Record<string, unknown>>;
type Recipe = {
  readonly title: string;
  readonly key: Key;
  readonly header: Claims;
  readonly claims: Claims;
  /** What also matches, by what is different in it. */
  readonly right: Readonly<Record<string, Claims>>;
  /** What does not. */
  readonly wrong: Readonly<Record<string, Claims>>;
};

export const AUDIENCE = "https://coffer.example.com";

const gitlab = (path: string, ref: string, type = "branch"): Claims => ({
  project_path: path,
  ref,
  ref_type: type,
  sub: `project_path:${path}:ref_type:${type}:ref:${ref}`,
});
const github = (repository: string, more: string): Claims => ({
  repository,
  sub: `repo:${repository}:${more}`,
});
const pod = (namespace: string, name: string, uid: string): Claims => ({
  sub: `system:serviceaccount:${namespace}:${name}`,
  "kubernetes.io": {
    namespace,
    node: { name: "ip-10-0-1-17.eu-central-1.compute.internal", uid: "517eb86e-b863-451b-bf70-86cb61439a3a" },
    pod: { name: "train-7d4b9", uid: "0d8b260e-ef0e-45fb-be8e-ff44f97722e8" },
    serviceaccount: { name, uid },
    warnafter: nowSeconds() + 3_607,
  },
});
const role = (arn: string, aws_account: string, more: Claims = {}): Claims => ({
  sub: arn,
  "https://sts.amazonaws.com/": {
    aws_account,
    source_region: "eu-central-1",
    org_id: "o-abc1234567",
    ou_path: "o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/",
    principal_tags: { team: "ml" },
    ...more,
  },
});

const UID = "a709ef71-30e2-489a-bd19-ade97031b9db";
export const RECIPES: readonly Recipe[] = [
  {
    title: "GitHub Actions",
    key: rsaKey("38826b17-6a30-5f9b-b169-8beb8202f723"),
    header: { typ: "JWT", alg: "RS256", x5t: "ykNaY4qM_ta4k2TgZOCEYLkcYlA" },
    claims: {
      jti: "example-id",
      ...github("acme/train", "ref:refs/heads/main"),
      ref: "refs/heads/main",
      sha: "b1946ac92492d2347c6235b4d2611184aa71b3f8",
      repository_owner: "acme",
      repository_owner_id: "65",
      repository_visibility: "private",
      repository_id: "74",
      run_id: "1234567890",
      run_number: "10",
      run_attempt: "2",
      runner_environment: "github-hosted",
      actor: "octocat",
      actor_id: "12",
      workflow: "train",
      workflow_ref: "acme/train/.github/workflows/train.yml@refs/heads/main",
      head_ref: "",
      base_ref: "",
      event_name: "push",
      ref_type: "branch",
      ref_protected: "true",
      job_workflow_ref: "acme/train/.github/workflows/train.yml@refs/heads/main",
    },
    right: {
      "by hand": { event_name: "workflow_dispatch" },
      "of a repository with ids in its subject": { sub: "repo:acme@65/train@74:ref:refs/heads/main" },
    },
    wrong: {
      "another repository of the owner": {
        ...github("acme/other", "ref:refs/heads/main"),
        repository_id: "75",
      },
      "a fork": {
        ...github("mallory/train", "ref:refs/heads/main"),
        repository_id: "76",
        repository_owner: "mallory",
      },
      "the name taken by somebody else": { repository_id: "99", repository_owner_id: "98" },
      "another branch": { ...github("acme/train", "ref:refs/heads/evil"), ref: "refs/heads/evil" },
      "a branch that ends alike": github("acme/train", "ref:refs/heads/x/refs/heads/main"),
      "a tag": { ...github("acme/train", "ref:refs/tags/main"), ref_type: "tag" },
      "a pull request": { ...github("acme/train", "pull_request"), event_name: "pull_request" },
      "a pull request with the base branch's rights": { event_name: "pull_request_target" },
      "an environment named like the branch": github("acme/train", "environment:refs/heads/main"),
      "an owner whose name begins alike": github("acme-evil/train", "ref:refs/heads/main"),
    },
  },
  {
    title: "GitLab CI",
    key: rsaKey("4i3sFE7sxqNPOT7FdvcGA1ZVGGI_r-tsDXnEuYT4ZqE"),
    header: { typ: "JWT", alg: "RS256" },
    claims: {
      namespace_id: "72",
      namespace_path: "acme/ml",
      project_id: "28",
      user_id: "1",
      user_login: "sample-user",
      user_email: "sample-user@example.com",
      user_access_level: "developer",
      user_identities: [{ provider: "github", extern_uid: "2435223452345" }],
      pipeline_id: "455",
      pipeline_source: "push",
      job_id: "1123",
      ...gitlab("acme/ml/train", "main"),
      ref_path: "refs/heads/main",
      ref_protected: "true",
      groups_direct: ["acme/ml"],
      environment: "production",
      environment_protected: "true",
      deployment_tier: "production",
      runner_id: 1,
      runner_environment: "gitlab-hosted",
      sha: "714a629c0b401fdce83e847fc9589983fc6f46bc",
      project_visibility: "private",
      ci_config_ref_uri: "gitlab.com/acme/ml/train//.gitlab-ci.yml@refs/heads/main",
      ci_config_sha: "714a629c0b401fdce83e847fc9589983fc6f46bc",
      jti: "63ab75f4-2606-4f0e-a500-86f90ab13a85",
    },
    right: { "by a schedule": { pipeline_source: "schedule" } },
    wrong: {
      "another project": { ...gitlab("acme/ml/other", "main"), project_id: "29" },
      "a fork, as in a merge request from one": { ...gitlab("mallory/train", "main"), project_id: "31" },
      "the path taken by somebody else": { project_id: "99" },
      "another branch": gitlab("acme/ml/train", "evil"),
      "a tag named like the branch": gitlab("acme/ml/train", "main", "tag"),
      "the branch without protection": { ref_protected: "false" },
      "a group in between": gitlab("acme/train", "main"),
    },
  },
  {
    title: "Kubernetes",
    key: rsaKey("OAjVVaejWFc0Yt9ykr0_8lMMuRNs67OXTWHsN02Pkyw"),
    header: { alg: "RS256", typ: undefined },
    claims: {
      aud: [AUDIENCE],
      jti: "e51f1fbc-4733-4b85-a59f-ba80c0523874",
      ...pod("training", "trainer", UID),
      exp: nowSeconds() + 3_607,
    },
    right: {
      "for a year, as clusters once extended them": { exp: nowSeconds() + 365 * 86_400 },
      "for the cluster as well": { aud: [AUDIENCE, "https://kubernetes.default.svc"] },
    },
    wrong: {
      "another namespace": pod("default", "trainer", "517eb86e-b863-451b-bf70-86cb61439a3b"),
      "another namespace, whoever's uid": pod("default", "trainer", UID),
      "another account of the namespace": pod("training", "default", "517eb86e-b863-451b-bf70-86cb61439a3c"),
      "the account made anew under its name": pod(
        "training",
        "trainer",
        "517eb86e-b863-451b-bf70-86cb61439a3d",
      ),
      "the token of the cluster itself": { aud: ["https://kubernetes.default.svc"] },
    },
  },
  {
    title: "Google Cloud",
    key: rsaKey("76e021ab9b8d76d3b1a4b5e8b0b3f7d7c0a1f2aa"),
    header: { typ: "JWT", alg: "RS256" },
    claims: {
      azp: "117352481023456789012",
      sub: "117352481023456789012",
      email: "trainer@acme-ml.iam.gserviceaccount.com",
      email_verified: true,
      google: {
        compute_engine: {
          instance_creation_timestamp: 1_767_000_000,
          instance_id: "7190000000000000000",
          instance_name: "trainer-1",
          project_id: "acme-ml",
          project_number: 123_456_789_012,
          zone: "europe-west4-a",
        },
      },
      nbf: undefined,
      exp: nowSeconds() + 3_600,
    },
    right: { "in the standard format, without the machine": { google: undefined } },
    wrong: {
      "another service account": {
        sub: "104000000000000000000",
        email: "other@acme-ml.iam.gserviceaccount.com",
      },
      "another's with the same address, made anew": { sub: "104000000000000000000" },
      "an address that is not verified": { email_verified: false },
      "a person": {
        sub: "110000000000000000001",
        email: "somebody@gmail.com",
        azp: "1.apps.googleusercontent.com",
      },
      "an address of another project": { email: "trainer@acme-ml-evil.iam.gserviceaccount.com" },
    },
  },
  {
    title: "AWS",
    key: ecKey("EC384_0", "P-384"),
    header: { typ: "JWT", alg: "ES384" },
    claims: {
      jti: "xyz123-def456",
      nbf: undefined,
      ...role("arn:aws:iam::123456789012:role/Trainer", "123456789012"),
    },
    right: {
      "with tags of its own": role("arn:aws:iam::123456789012:role/Trainer", "123456789012", {
        request_tags: { job: "42" },
      }),
    },
    wrong: {
      "another role": role("arn:aws:iam::123456789012:role/Other", "123456789012"),
      "a role in a path": role("arn:aws:iam::123456789012:role/evil/Trainer", "123456789012"),
      "a user of that name": role("arn:aws:iam::123456789012:user/Trainer", "123456789012"),
      "the role of another account": role("arn:aws:iam::210987654321:role/Trainer", "210987654321"),
      "another account by its claim": role("arn:aws:iam::123456789012:role/Trainer", "210987654321"),
      "an account that is only tagged so": role("arn:aws:iam::123456789012:role/Trainer", "210987654321", {
        request_tags: { aws_account: "123456789012" },
      }),
    },
  },
];
